"""Prefect's tasks: `dvc repro` of one stage, or a stage of a DVC experiment. Also what else the page of a flow run shows."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

from prefect import artifacts, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from gee_core.evaluation.activity import energy_text
from pipelines.orchestration.dvc_output import BUSY, failure, is_hint, last_lines, outcomes, progress_in
from pipelines.orchestration.flow_lock import wait_for_other_dvc
from pipelines.orchestration.request import Request, experiment_arguments
from pipelines.project.paths import find_project, python_first
from pipelines.reporting.summary import Summary, percent, summary_markdown
from pipelines.runtime.process_tree import run_in_group
from pipelines.tracking.pipeline_run import EXECUTION

log = logging.getLogger(__name__)

TRIES = 10
"""How often a stage is tried whose files another `dvc` uses."""


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def run_stage(stage: str, execution: str, force: bool) -> str | State[str]:
    """Run `dvc repro` of one stage; returns what became of it, which names its state too."""
    output, code = _dvc(["repro", "--single-item", *(["--force"] if force else []), stage], execution, Watcher())
    return _became(stage, output, code)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def follow_stage(stage: str, output: "Queue[str | int]") -> str | State[str]:
    """Show a stage of an experiment as `run_stage` does. ``output`` has the lines that it prints, then the exit code."""
    watcher, lines = Watcher(), list[str]()
    while isinstance(line := output.get(), str):
        watcher(line)
        lines.append(line)
    return _became(stage, "\n".join(lines), line)


def _became(stage: str, output: str, code: int) -> str | State[str]:
    if code:
        return Failed(message=failure(f"stage {stage}", code, output), data=last_lines(output))
    what = outcomes(output).get(stage, "skipped")
    return what if what == "ran" else Completed(name=what.capitalize(), data=what)


def run_experiment(request: Request, name: str, changes: list[str], execution: str) -> dict[str, PrefectFuture[Any]]:
    """Run a DVC experiment with ``changes`` to params.yaml in a temporary copy; returns its stages, each a task from its start.

    Where no stage began, the one task ``experiment`` has the message of DVC.
    """
    futures, output, code = dict[str, PrefectFuture[Any]](), Queue[str | int](), 1

    def begin(stage: str) -> None:
        nonlocal output
        if futures:
            output.put(0)
            output = Queue()
        futures[stage] = follow_stage.submit(stage, output, return_state=False)

    def on_line(line: str) -> None:
        for stage in outcomes(line).keys() - futures.keys():
            begin(stage)
        output.put(line)

    force = ["--force"] if request.force else []
    try:
        _, code = _dvc([*experiment_arguments("--temp", name, changes), *force, *request.stages], execution, on_line)
        if code and not futures:
            begin("experiment")
    finally:  # else the task would wait for ever
        output.put(code)
    return futures


def _dvc(arguments: list[str], execution: str, on_line: Callable[[str], object]) -> tuple[str, int]:
    """The output and exit code of a `dvc` command."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    env = {"PATH": python_first(), "PYTHONUNBUFFERED": "1", EXECUTION: execution}
    for _ in range(TRIES):
        result = run_in_group(command, cwd=find_project(), env=env, on_line=on_line)
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


def cards(s: Summary) -> str:
    """The numbers at the head of the report."""
    names = "| test accuracy | parameters | energy per image | spikes per image | accuracy under noise |"
    energy, spikes = energy_text(s.energy_mj), f"{s.spikes_per_image:,.0f}"
    values = (percent(s.test_accuracy), f"{s.parameters:,}", energy, spikes, percent(s.noise_accuracy))
    return f"{names}\n|{5 * '---|'}\n| **{'** | **'.join(values)}** |"


def publish(markdown: str, address: str | None, about: str, summary: Summary | None = None) -> None:
    """Add the table of results to the run's page, the `cards` of its ``summary``, and a link to MLflow, where there are any."""
    with harmless():
        artifacts.create_markdown_artifact(markdown, "gee-results", about)
        if summary:
            artifacts.create_markdown_artifact(cards(summary), "gee-report", "The report in short")
        if address:
            note = "`mlflow server --backend-store-uri sqlite:///mlflow.db` serves it, if no other server does."
            artifacts.create_link_artifact(address, "The run in MLflow", "gee-mlflow", note)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Prefect adds to "Finished in state Failed(…)": that state in full, escaped, and a traceback of its own."""
    failed_run = record.exc_info and isinstance(record.exc_info[1], FailedRun)
    return not failed_run and "Task run failed with state" not in record.getMessage()


for logger in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(logger).addFilter(_is_news)
