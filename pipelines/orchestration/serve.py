"""Schedules: the flows as deployments that this process runs, one run at a time."""

import os
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from prefect import serve
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron

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
    for option, text in ((("--cron", cron),) if cron else ()) + (("--study-cron", study_cron),):
        try:
            CronSchedule(cron=text)
        except ValueError:
            raise InputError(f'{option} "{text}": not a cron schedule', 'write for example "0 2 * * *"') from None
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise InputError(f"--timezone {timezone}: no such time zone", "write for example Europe/Berlin, or UTC") from None
    for study in studies:
        load_study(study)
    connect("a schedule")
    os.chdir(find_project())
    settle_abandoned(say)
    schedule = Cron(cron, timezone=timezone) if cron else None
    nightly = RunnerDeployment.from_flow(pipeline_flow, name, schedule=schedule, tags=["gee"])
    weekly, tags = Cron(study_cron, timezone=timezone), ["gee", "study"]
    serve(
        nightly,
        *(
            RunnerDeployment.from_flow(study_flow, f"weekly-{study}", schedule=weekly, parameters={"study": study}, tags=tags)
            for study in studies
        ),
        limit=1,
    )
