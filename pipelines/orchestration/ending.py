"""What a flow run ends with, on its page in Prefect and in the terminal: what became of each stage, results, where to look."""

import os
from typing import NamedTuple
from uuid import UUID

from rich.console import Console

from gee_core.evaluation.activity import energy_text
from pipelines.project.paths import PAGE, SUMMARY
from pipelines.reporting.summary import Summary, format_summary, percent, read_summary, summary_markdown
from pipelines.tracking.experiment_page import page_address
from pipelines.tracking.redact import bare


class Outcome(NamedTuple):
    """A flow run that is complete."""

    stages: dict[str, str]
    """What became of each: ``ran``, ``cached`` or ``skipped``."""
    run_id: UUID
    experiment: str | None
    """Name of the experiment; None where the results are those of the project itself."""


def page(run_id: UUID) -> str | None:
    """The page of a flow run on the Prefect server, if there is one; without user and password."""
    api = bare(os.environ.get("PREFECT_API_URL", ""))
    return f"{api.removesuffix('/api')}/runs/flow-run/{run_id}" if api.endswith("/api") else None


def print_runs(address: str | None = None) -> None:
    """Print how to see ``address``, a page of the project's own MLflow; by default that of all runs."""
    print("Runs     mlflow server --backend-store-uri sqlite:///mlflow.db")
    print(f"         then {address or page_address('experiments')}")


def print_ending(outcome: Outcome) -> None:
    """Print the outcome of each stage, the summary and the address of the report if that is up to date, and other addresses."""
    width = max(map(len, outcome.stages), default=0)
    for stage, became in outcome.stages.items():
        print(f"{stage:{width}}  {became}")
    has_results = "report" in outcome.stages and not outcome.experiment  # else they may be those of an earlier run
    if has_results and SUMMARY.is_file():
        print()
        Console(markup=False).print(format_summary(read_summary(SUMMARY)))
    print()
    if has_results and PAGE.is_file():
        print(f"Report   {PAGE.resolve().as_uri()}")
    print_runs()
    if address := page(outcome.run_id):
        print(f"Flow     {address}")
    else:
        print(f"Flow     prefect server start\n         then http://127.0.0.1:4200/runs/flow-run/{outcome.run_id}")
    if outcome.experiment:
        print(f"Results  dvc exp show --only-changed\nNext     dvc exp apply {outcome.experiment}")


def results_markdown(results: dict[str, str], summary: Summary | None) -> str:
    """What became of each stage, and the summary of the run as `gee summary` prints it."""
    lines = ["| stage | outcome |", "|---|---|", *(f"| {stage} | {became} |" for stage, became in results.items())]
    return "\n".join([summary_markdown(summary), "", *lines] if summary else lines)


def cards(s: Summary) -> str:
    """The numbers at the head of the report."""
    names = "| test accuracy | parameters | energy per image | spikes per image | accuracy under noise |"
    energy, spikes = energy_text(s.energy_mj), f"{s.spikes_per_image:,.0f}"
    values = (percent(s.test_accuracy), f"{s.parameters:,}", energy, spikes, percent(s.noise_accuracy))
    return f"{names}\n|{5 * '---|'}\n| **{'** | **'.join(values)}** |"
