"""The command `gee gc`. Heavy imports wait until it runs."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands.gc.leftover import Leftover
from pipelines.project.paths import find_project

console = Console()

MOST_DAYS = 100 * 365
"""A date before the year 1 cannot be represented; a hundred years are enough."""


def gc(
    days: Annotated[float, typer.Option(help="Keep what was used within this time.")] = 30,
    dvc: Annotated[
        bool, typer.Option("--dvc", help="Also results in DVC's cache that the workspace does not use, experiments included.")
    ] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Also runs deleted in MLflow; they cannot be restored.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without this option they are only listed.")] = False,
) -> None:
    """List files that are no longer needed; with --yes, delete them.

    These are finished and abandoned runs of stages, shared results of studies, and Prefect's old flow runs.
    While a stage, a study or a flow is running, nothing in .scratch and in DVC's cache is deleted.
    Before --dvc, `dvc push --all-branches --all-tags` keeps the results of branches and tags in a remote, `dvc push` after each
    commit those of every commit, `dvc exp push` those of experiments.
    """
    from gee_core.errors import InputError
    from pipelines.orchestration.flow_lock import flow_lock

    if not 0 <= days <= MOST_DAYS:  # nor is nan
        raise InputError(f"--days {days:g}: out of range", f"choose 0 to {MOST_DAYS}")
    project = find_project()
    with flow_lock(project, None) if yes else nullcontext():
        found = _leftovers(project, days, dvc, mlflow)
        _print(found)
        for leftover in found if yes else []:
            leftover.remove()
    if found:
        listed = "Nothing was deleted; `gee gc --yes` with the same options deletes it"
        console.print(f"Deleted in {project}" if yes else listed, highlight=False, markup=False, soft_wrap=True)


def _leftovers(project: Path, days: float, dvc: bool, mlflow: bool) -> list[Leftover]:
    import psutil

    from pipelines.commands.gc.at_work import at_work
    from pipelines.commands.gc.scratch import scratch_leftovers
    from pipelines.commands.gc.stores import dvc_leftovers, mlflow_leftovers, prefect_leftovers

    say = partial(console.print, highlight=False, markup=False)
    found = mlflow_leftovers(project, days, say) if mlflow else []
    if working := at_work(psutil.process_iter(), project):
        say(f".scratch and DVC's cache are kept, because these are running: {'; '.join(working)}")
    else:
        found += scratch_leftovers(project, days)
        found += dvc_leftovers(project) if dvc else []
    return found + prefect_leftovers(project, days)


def _print(found: list[Leftover]) -> None:
    from rich.table import Column, Table

    if not found:
        console.print("Nothing to delete")
        return
    table = Table("what", "where", *(Column(name, justify="right") for name in ("how many", "size")))
    for leftover in found:
        table.add_row(leftover.what, leftover.place, f"{leftover.count:,}", bytes_for_people(leftover.size))
    table.add_section()
    table.add_row("total", "", "", bytes_for_people(sum(leftover.size or 0 for leftover in found)))
    console.print(table)


def bytes_for_people(size: int | None) -> str:
    """``size`` in B, kB, MB or GB; `?` where it is unknown."""
    if size is None:
        return "?"
    unit = next(i for i in range(4) if size < 1000 ** (i + 1) or i == 3)
    return f"{size / 1000**unit:,.{1 if unit else 0}f} {('B', 'kB', 'MB', 'GB')[unit]}"
