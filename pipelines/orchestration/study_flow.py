"""A study as a Prefect flow: `gee study run` in a process of its own."""

import os
import sys
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from gee_core.errors import InputError
from pipelines.orchestration.dvc_output import failure, last_lines
from pipelines.orchestration.flow_lock import flow_lock
from pipelines.orchestration.form import Overrides, Preset, by_key
from pipelines.orchestration.server import STUDY, claim, on_end, settle_abandoned
from pipelines.orchestration.tasks import Watcher, publish
from pipelines.project.paths import find_project
from pipelines.runtime.process_tree import die_with_parent, run_in_group
from pipelines.studies.cell import Request
from pipelines.studies.definition import load_study
from pipelines.studies.display import TRACKED
from pipelines.studies.plan import draft_cells
from pipelines.studies.reports import OUT


@flow(name=STUDY, retries=0, on_failure=[on_end], on_crashed=[on_end])
def study_flow(
    study: str,
    preset: Preset = None,
    seeds: int | None = None,
    overrides: Overrides = {},  # noqa: B006 - Prefect copies it
    force: bool = False,
) -> State[Any]:
    """Run the cells of a study that have no result; returns the folder of its tables. Waits for another run here.

    Args:
        study: A file in studies/, without its ending.
        preset: Start from this preset instead of the study's.
        seeds: Number of seeds per cell. None: the study's.
        overrides: New values of params.yaml in every cell, such as {"train": {"epochs": 5}}.
        force: Run all cells, also those that have a result.
    """
    die_with_parent()
    os.chdir(find_project())
    request = Request(study, preset, seeds=seeds, overrides=by_key(overrides))
    try:
        draft_cells(load_study(study), request)
    except InputError as error:
        return Failed(message=str(error))
    claim([study])
    with flow_lock(find_project(), get_run_logger().info):
        settle_abandoned(get_run_logger().info)
        return run_study(request, force)


def run_study(request: Request, force: bool) -> State[Any]:
    """Run `gee study run`, with its tables on the page of the flow run; a failed state has the last lines of its output."""
    options = [*request.options(), *(["--force"] if force else [])]
    command = [sys.executable, "-m", "pipelines.cli", "study", "run", request.name, *options]
    result = run_in_group(command, cwd=find_project(), env={"PYTHONUNBUFFERED": "1"}, on_line=Watcher())
    if result.returncode:
        message = failure(f"study {request.name}", result.returncode, result.stdout)
        return Failed(message=message, data=f"{message}\n{last_lines(result.stdout)}")
    page = next((line.removeprefix(TRACKED) for line in result.stdout.splitlines() if line.startswith(TRACKED)), None)
    out = OUT / request.folder
    publish((out / "table.md").read_text(encoding="utf-8"), page, f"Tables and plots: {out.absolute()}")
    return Completed(message=f"study {request.name} is complete", data=str(out))
