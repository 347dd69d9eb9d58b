"""What the page of a flow run shows beside its tasks: progress, the table of results, links. None of it can stop a run."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from pipelines.orchestration import environment  # noqa: F401 - before prefect is imported

# isort: split
from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.exceptions import FailedRun

from pipelines.orchestration.dvc_output import is_error, is_hint, progress_in
from pipelines.reporting.summary import summary_markdown

log = logging.getLogger(__name__)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Prefect adds to "Finished in state Failed(…)": that state in full, escaped, and a traceback of its own."""
    failed_run = record.exc_info and isinstance(record.exc_info[1], FailedRun)
    return not failed_run and "Task run failed with state" not in record.getMessage()


for name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(name).addFilter(_is_news)


class Watcher:
    """Takes the lines that a stage prints: logs them, and keeps the progress artifacts of the run up to date."""

    def __init__(self) -> None:
        self._log = get_run_logger()
        self._ids: dict[str, UUID] = {}

    def __call__(self, line: str) -> None:
        """Take one line; hints for people at a terminal are left out."""
        if is_hint(line):
            return
        (self._log.error if is_error(line) else self._log.info)(line)
        if found := progress_in(line):
            with harmless():
                if found.task in self._ids:
                    update_progress_artifact(self._ids[found.task], found.percent, line)
                else:
                    self._ids[found.task] = create_progress_artifact(found.percent, f"gee-{found.task}", line)


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Log an error of the body, such as that of a server that does not answer, and go on."""
    try:
        yield
    except Exception as error:
        log.warning("an artifact of the flow run is missing: %s: %s", type(error).__name__, error)


def results_markdown(results: dict[str, str], summary: dict | None) -> str:
    """What became of each stage, and the summary of the run as `gee summary` prints it."""
    lines = ["| stage | outcome |", "|---|---|", *(f"| {stage} | {what} |" for stage, what in results.items())]
    if summary:
        lines = [summary_markdown(summary), "", *lines]
    return "\n".join(lines)


def publish(markdown: str, page: Path | None, address: str | None, about: str) -> None:
    """Add the table of results to the run's page, and links to the report ``page`` and to MLflow, where there are any."""
    with harmless():
        create_markdown_artifact(markdown, "gee-results", about)
        if page:
            note = "Browsers open files from the address bar only: copy the address. It is a file on the machine that ran."
            create_link_artifact(page.absolute().as_uri(), str(page.absolute()), "gee-report", note)
        if address:
            note = "`mlflow server --backend-store-uri sqlite:///mlflow.db` serves it, if no other server does."
            create_link_artifact(address, "The run in MLflow", "gee-mlflow", note)
