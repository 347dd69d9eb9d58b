"""What a flow run ends with, on its page in Prefect and in the terminal: what became of each stage, results, where to look."""

import os
import subprocess
import sys
from uuid import UUID

from rich.console import Console

from pipelines.orchestration.request import COMPARE
from pipelines.project.paths import PAGE, SUMMARY
from pipelines.reporting.summary import Summary, format_summary, read_summary, summary_markdown
from pipelines.runtime.redact import bare


def page(run_id: UUID) -> str | None:
    """The page of a flow run on the Prefect server, if there is one; without user and password."""
    api = bare(os.environ.get("PREFECT_API_URL", ""))
    return f"{api.removesuffix('/api')}/runs/flow-run/{run_id}" if api.endswith("/api") else None


def print_runs(address: str | None = None) -> None:
    """Print how to see all runs in the project's own MLflow, and its page ``address``."""
    print("Runs     gee ui")
    if address:
        print(f"         then {address}")


def print_ending(outcomes: dict[str, str], run_id: UUID, experiment: str | None) -> None:
    """Print the outcome of each stage, the summary and the address of the report if that is up to date, and other addresses.

    ``experiment`` is None where the results are in the project itself.
    """
    width = max(map(len, outcomes), default=0)
    for stage, outcome in outcomes.items():
        print(f"{stage:{width}}  {outcome}")
    reported = "report" in outcomes  # else the results may be those of an earlier run
    print()
    if reported and not experiment:
        Console(markup=False).print(format_summary(read_summary(SUMMARY)))
        print(f"\nReport   {PAGE.resolve().as_uri()}")
    print_runs()
    if address := page(run_id):
        print(f"Flow     {address}")
    else:
        print(f"Flow     prefect server start\n         then http://127.0.0.1:4200/runs/flow-run/{run_id}")
    if experiment:
        print_experiment(experiment, reported)


def print_experiment(name: str, reported: bool) -> None:
    """Print the results of a DVC experiment that ``reported`` some next to those of the last run here, and what to do next."""
    if reported and PAGE.is_file():  # without a run here, the numbers are those that came with the clone
        print(flush=True)
        subprocess.run([sys.executable, "-m", "dvc", "metrics", "diff", "--no-path", "--precision", "6", "workspace", name])
    print(f"\nResults  {COMPARE}\nNext     dvc exp apply {name}")


def results_markdown(outcomes: dict[str, str], summary: Summary | None) -> str:
    """The outcome of each stage, and the summary of the run as `gee summary` prints it."""
    lines = ["| stage | outcome |", "|---|---|", *(f"| {stage} | {outcome} |" for stage, outcome in outcomes.items())]
    return "\n".join([summary_markdown(summary), "", *lines] if summary else lines)
