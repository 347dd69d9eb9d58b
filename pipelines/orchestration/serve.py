"""Schedules: the flows as deployments that this process runs, one run at a time."""

import os
from collections.abc import Sequence

from prefect import serve
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment

from gee_core.errors import InputError
from pipelines.orchestration.flow import pipeline_flow, study_flow
from pipelines.orchestration.flow_lock import say
from pipelines.orchestration.server import connect, settle_abandoned
from pipelines.project.paths import find_project
from pipelines.runtime.process_tree import exit_on_sigterm
from pipelines.studies.definition import load_study


def serve_flows(cron: str | None, name: str, timezone: str, studies: Sequence[str], study_cron: str) -> None:
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
    settle_abandoned(say)
    runs = [RunnerDeployment.from_flow(pipeline_flow, name, schedules=nightly, tags=["gee"])]
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
