"""Prefect's tasks: `dvc repro` of one stage, or a whole DVC experiment. Also what the page of a flow run shows next to them."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import artifacts, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed

from pipelines.orchestration.dvc_output import BUSY, failure, is_hint, last_lines, outcomes, progress_in
from pipelines.orchestration.flow_lock import wait_for_other_dvc
from pipelines.project.paths import find_project, python_first
from pipelines.reporting.summary import Summary, summary_markdown
from pipelines.runtime.process_tree import run_in_group
from pipelines.tracking.pipeline_run import EXECUTION

log = logging.getLogger(__name__)

TRIES = 10
"""How often a stage is tried whose files another `dvc` uses."""


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def run_stage(stage: str, execution: str, force: bool) -> str | State[str]:
    """Run `dvc repro` of one stage; returns what became of it, which names its state too."""
    output, code = _dvc(["repro", "--single-item", *(["--force"] if force else []), stage], execution)
    if code:
        return Failed(message=failure(f"stage {stage}", code, output), data=last_lines(output))
    what = outcomes(output).get(stage, "skipped")
    return what if what == "ran" else Completed(name=what.capitalize(), data=what)


@task(task_run_name="experiment {name}", cache_policy=NO_CACHE, retries=0)
def run_experiment(
    name: str, changes: list[str], stages: list[str], force: bool, execution: str
) -> dict[str, str] | State[str]:
    """Run a DVC experiment with ``changes`` to params.yaml in a temporary copy; returns what became of its stages."""
    options = ["--temp", "--name", name, *(["--force"] if force else []), *(f"--set-param={change}" for change in changes)]
    output, code = _dvc(["exp", "run", *options, *stages], execution)
    if code:
        return Failed(message=failure(f"experiment {name}", code, output), data=last_lines(output))
    return outcomes(output)


def _dvc(arguments: list[str], execution: str) -> tuple[str, int]:
    """The output and exit code of a `dvc` command."""
    watcher = Watcher()
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    env = {"PATH": python_first(), "PYTHONUNBUFFERED": "1", EXECUTION: execution}
    for _ in range(TRIES):
        result = run_in_group(command, cwd=find_project(), env=env, on_line=watcher)
        if result.returncode == 0 or BUSY not in result.stdout:
            break
        if not wait_for_other_dvc(find_project(), get_run_logger().info):  # it has ended, or is between two stages
            time.sleep(1)
    return result.stdout, result.returncode


class Watcher:
    """Takes the lines that a stage prints: logs them, and keeps the progress artifacts of the run up to date."""

    def __init__(self) -> None:
        self._log = get_run_logger()
        self._ids: dict[str, Any] = {}

    def __call__(self, line: str) -> None:
        if is_hint(line):
            return
        self._log.info(line)
        if found := progress_in(line):
            name, percent = found
            with harmless():
                if name in self._ids:
                    artifacts.update_progress_artifact(self._ids[name], percent, line)
                else:
                    self._ids[name] = artifacts.create_progress_artifact(percent, f"gee-{name}", line)


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Log an error of the body, such as that of a server that does not answer, and go on."""
    try:
        yield
    except Exception as error:
        log.warning("an artifact of the flow run is missing: %s: %s", type(error).__name__, error)


def results_markdown(results: dict[str, str], summary: Summary | None) -> str:
    """What became of each stage, and the summary of the run as `gee summary` prints it."""
    lines = ["| stage | outcome |", "|---|---|", *(f"| {stage} | {what} |" for stage, what in results.items())]
    return "\n".join([summary_markdown(summary), "", *lines] if summary else lines)


def publish(markdown: str, page: Path | None, address: str | None, about: str) -> None:
    """Add the table of results to the run's page, and links to the report ``page`` and to MLflow, where there are any."""
    with harmless():
        artifacts.create_markdown_artifact(markdown, "gee-results", about)
        if page:
            note = "Browsers open files from the address bar only: copy the address. It is a file on the machine that ran."
            artifacts.create_link_artifact(page.absolute().as_uri(), str(page.absolute()), "gee-report", note)
        if address:
            note = "`mlflow server --backend-store-uri sqlite:///mlflow.db` serves it, if no other server does."
            artifacts.create_link_artifact(address, "The run in MLflow", "gee-mlflow", note)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Prefect adds to "Finished in state Failed(…)": that state in full, escaped, and a traceback of its own."""
    failed_run = record.exc_info and isinstance(record.exc_info[1], FailedRun)
    return not failed_run and "Task run failed with state" not in record.getMessage()


for logger in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(logger).addFilter(_is_news)
