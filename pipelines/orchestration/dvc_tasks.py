"""Prefect's tasks: one runs `dvc repro` of one stage, the other a whole DVC experiment."""

import sys
import threading
import time
from pathlib import Path

from gee_core.errors import InputError
from pipelines.orchestration import environment  # noqa: F401 - before prefect is imported

# isort: split
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipelines.orchestration.artifacts import Watcher
from pipelines.orchestration.dvc_output import BUSY, failure, last_lines, outcomes
from pipelines.orchestration.other_dvc import wait_for_other_dvc
from pipelines.project.params import read_sections
from pipelines.project.paths import find_project, python_first
from pipelines.runtime.process_tree import run_in_group
from pipelines.tracking import mlflow_client
from pipelines.tracking.pipeline_run import EXECUTION
from pipelines.tracking.tracker import tracking_is_off

REMEDY = "`dvc repro --dry` shows what is wrong"

ran: list[str] = []
"""The stages that this process has started, in this order."""


def stage_names(project: Path) -> list[str]:
    """The stages that dvc.yaml names, without loading DVC; it checks their definitions, in `stage_dependencies`.

    Raises:
        InputError: dvc.yaml is missing or not YAML.
    """
    stages = read_sections(project / "dvc.yaml", REMEDY, REMEDY).get("stages")
    return list(stages) if isinstance(stages, dict) else []


def stage_dependencies(project: Path) -> dict[str, list[str]]:
    """The stages of dvc.yaml with the stages that they depend on, dependencies first.

    Raises:
        InputError: DVC cannot read the project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from networkx import topological_sort

    try:
        with Repo(str(project)) as repo:
            graph = repo.index.graph
            order = reversed(list(topological_sort(graph)))  # DVC's edges point from a stage to what it needs
            return {s.addressing: sorted(d.addressing for d in graph.successors(s)) for s in order if s.cmd}
    except DvcException as error:
        raise InputError(f"{project}: {' '.join(str(error).split())}", REMEDY) from None


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def run_stage(stage: str, execution: str, force: bool) -> str | State:
    """Run `dvc repro` of one stage; returns what became of it, which names its state too.

    A failed state has the last lines of its output.
    """
    output, code = _dvc(["repro", "--single-item", *(["--force"] if force else []), stage], execution)
    if code:
        return Failed(message=failure(f"stage {stage}", code, output), data=last_lines(output))
    what = outcomes(output).get(stage, "skipped")
    return what if what == "ran" else Completed(name=what.capitalize(), data=what)


@task(task_run_name="experiment {name}", cache_policy=NO_CACHE, retries=0)
def run_experiment(name: str, changes: list[str], stages: list[str], force: bool, execution: str) -> dict[str, str] | State:
    """Run a DVC experiment with ``changes`` to params.yaml in a temporary copy; returns what became of its stages."""
    options = ["--temp", "--name", name, *(["--force"] if force else []), *(f"--set-param={change}" for change in changes)]
    output, code = _dvc(["exp", "run", *options, *stages], execution)
    if code:
        return Failed(message=failure(f"experiment {name}", code, output), data=last_lines(output))
    return outcomes(output)


def _dvc(arguments: list[str], execution: str) -> tuple[str, int]:
    """The output and exit code of a `dvc` command."""
    watcher = Watcher()

    def on_line(line: str) -> None:
        started = [stage for stage, what in outcomes(line).items() if what == "ran"]
        if started and not ran and not tracking_is_off():  # the flow tracks at its end, and a stopped one has seconds for that
            threading.Thread(target=mlflow_client.load, name="load-mlflow", daemon=True).start()
        ran.extend(started)
        watcher(line)

    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    env = {"PATH": python_first(), "PYTHONUNBUFFERED": "1", EXECUTION: execution}
    while True:
        result = run_in_group(command, cwd=find_project(), env=env, on_line=on_line)
        if result.returncode == 0 or BUSY not in result.stdout:
            return result.stdout, result.returncode
        if not wait_for_other_dvc(find_project(), get_run_logger().info):  # it has ended, or is between two stages
            time.sleep(1)
