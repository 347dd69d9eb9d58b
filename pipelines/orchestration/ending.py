"""What `gee flow run` prints at its end: what became of each stage, the results, and where to look."""

from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from rich.console import Console

from pipelines.project.paths import PAGE, SUMMARY
from pipelines.reporting.summary import format_summary, read_summary
from pipelines.tracking.experiment_page import page_address

RUNS = page_address("experiments")
"""Address of the list of all runs in the page of the project's own MLflow."""


class Outcome(NamedTuple):
    """A flow run that is complete."""

    stages: dict[str, str]
    """What became of each: ``ran``, ``cached`` or ``skipped``."""
    run_id: UUID
    page: str | None
    """Address of its page; None where its server has ended with it."""
    experiment: Path | None
    """Folder with the results of an experiment; None for those of the project itself."""


def print_runs(address: str = RUNS) -> None:
    """Print how to see ``address``, a page of the project's own MLflow."""
    print(f"Runs     mlflow server --backend-store-uri sqlite:///mlflow.db\n         then {address}")


def print_ending(outcome: Outcome) -> None:
    """Print the outcome of each stage, the summary and the address of the report if that is up to date, and other addresses."""
    width = max(map(len, outcome.stages), default=0)
    for stage, what in outcome.stages.items():
        print(f"{stage:{width}}  {what}")
    folder = outcome.experiment
    summary, page = (folder / SUMMARY.name, folder / PAGE.name) if folder else (SUMMARY, PAGE)
    has_results = folder is not None or "report" in outcome.stages  # else they may be those of an earlier run
    if has_results and summary.is_file():
        print()
        Console(markup=False).print(format_summary(read_summary(summary)))
    print()
    if has_results and page.is_file():
        print(f"Report   {page.resolve().as_uri()}")
    print_runs()
    if outcome.page:
        print(f"Flow     {outcome.page}")
    else:
        print(f"Flow     prefect server start\n         then http://127.0.0.1:4200/runs/flow-run/{outcome.run_id}")
    if folder:
        print(f"Results  {folder}")
        print(f"Next     dvc exp apply {folder.name}")
