"""The command `gee compare`. Heavy imports wait until it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.project.paths import COMPARISON


def compare(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(help="Two or more: git revisions, DVC experiments, folders that hold a reports/, or `workspace`."),
    ],
    out: Annotated[Path, typer.Option(help="The page to write, a name that ends in .html.")] = COMPARISON,
) -> None:
    """Compare runs on a page: results, params that differ, training, noise, energy and wiring."""
    from gee_core.errors import InputError
    from gee_core.storage.atomic_files import write_atomically
    from pipelines.commands.compare.page import render, terminal_tables
    from pipelines.commands.compare.runs import find_runs

    if out.suffix.lower() != ".html":
        raise InputError(f"--out {out}: the page is HTML, and takes the place of this file", "give a name that ends in .html")
    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    found = find_runs(runs, Path.cwd(), here)
    page = out if out == COMPARISON else here / out
    write_atomically(page, render(found).encode("utf-8", "replace"))
    console = Console(markup=False)
    for table in terminal_tables(found):
        (console if console.is_terminal else Console(width=160, markup=False)).print(table)
    console.print(f"Page   {page.resolve().as_uri()}", highlight=False, soft_wrap=True)
