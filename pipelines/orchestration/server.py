"""The Prefect server: whether it answers, and the flows as deployments that this process runs, one run at a time."""

import os
import signal
from collections.abc import Sequence

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from gee_core.errors import InputError
from pipelines.orchestration.flow import pipeline_flow, study_flow
from pipelines.project.paths import find_project
from pipelines.runtime.process_tree import exit_on_sigterm
from pipelines.runtime.redact import redact
from pipelines.studies.definition import load_study

SECONDS = 20
"""How long the server may take to answer."""

REMEDY = "start `prefect server start` and set PREFECT_API_URL, for example http://127.0.0.1:4200/api"


def connect(needed_for: str | None = None) -> None:
    """Check that the server at PREFECT_API_URL answers. Without an address, let Prefect start its temporary server now.

    Raises:
        InputError: the server does not answer, or there is no address and ``needed_for`` names what takes a lasting server.
    """
    url = PREFECT_API_URL.value()
    if url:
        waits = {"timeout": (SECONDS / 4, SECONDS, SECONDS, SECONDS)}  # the first: to connect, which Prefect tries four times
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(httpx_settings=waits, sync_client=True) as client:
            if client.api_healthcheck():
                raise InputError(f"PREFECT_API_URL = {redact(url)}: no Prefect server answers there", REMEDY)
    elif needed_for:
        raise InputError(f"PREFECT_API_URL: not set, and {needed_for} needs a server", REMEDY)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the server inherits it, and survives a Ctrl-C until the
        try:  # flow has reported its end
            get_client(sync_client=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def serve_flows(cron: str | None, timezone: str, studies: Sequence[str], study_cron: str) -> None:
    """Run the pipeline on the schedule ``cron`` or, without, when asked to, and ``studies`` on ``study_cron``, until stopped.

    Raises:
        InputError: a schedule is none, a time zone or a study is unknown, or no server answers.
    """
    exit_on_sigterm()
    nightly, weekly = [_schedule("--cron", cron, timezone)] if cron else [], [_schedule("--study-cron", study_cron, timezone)]
    for study in studies:
        load_study(study)
    connect("a schedule")
    os.chdir(find_project())
    runs = [RunnerDeployment.from_flow(pipeline_flow, "nightly", schedules=nightly, tags=["gee"])]
    for study in studies:
        named, tags = {"study": study}, ["gee", "study"]
        runs.append(RunnerDeployment.from_flow(study_flow, f"weekly-{study}", schedules=weekly, parameters=named, tags=tags))
    serve(*runs, limit=1)


def _schedule(option: str, cron: str, timezone: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValueError:
        problem = f'{option} "{cron}", --timezone {timezone}: no such schedule or time zone'
        raise InputError(problem, 'write for example "0 2 * * *" and Europe/Berlin') from None
