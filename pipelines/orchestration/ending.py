"""What `gee flow run` prints at its end: what became of each stage, the results, and where to look."""

from typing import NamedTuple
from uuid import UUID

from rich.console import Console

from pipelines.project.paths import PAGE, SUMMARY
from pipelines.reporting.summary import format_summary, read_summary
from pipelines.tracking.experiment_page import page_address


class Outcome(NamedTuple):
    """A flow run that is complete."""

    stages: dict[str, str]
    """What became of each: ``ran``, ``cached`` or ``skipped``."""
    run_id: UUID
    page: str | None
    """Address of its page; None where its server has ended with it."""
    experiment: str | None
    """Name of the experiment; None where the results are those of the project itself."""


def print_runs(address: str | None = None) -> None:
    """Print how to see ``address``, a page of the project's own MLflow; by default that of all runs."""
    print("Runs     mlflow server --backend-store-uri sqlite:///mlflow.db")
    print(f"         then {address or page_address('experiments')}")


def print_ending(outcome: Outcome) -> None:
    """Print the outcome of each stage, the summary and the address of the report if that is up to date, and other addresses."""
    width = max(map(len, outcome.stages), default=0)
    for stage, what in outcome.stages.items():
        print(f"{stage:{width}}  {what}")
    has_results = "report" in outcome.stages and not outcome.experiment  # else they may be those of an earlier run
    if has_results and SUMMARY.is_file():
        print()
        Console(markup=False).print(format_summary(read_summary(SUMMARY)))
    print()
    if has_results and PAGE.is_file():
        print(f"Report   {PAGE.resolve().as_uri()}")
    print_runs()
    if outcome.page:
        print(f"Flow     {outcome.page}")
    else:
        print(f"Flow     prefect server start\n         then http://127.0.0.1:4200/runs/flow-run/{outcome.run_id}")
    if outcome.experiment:
        print(f"Results  dvc exp show --only-changed\nNext     dvc exp apply {outcome.experiment}")
