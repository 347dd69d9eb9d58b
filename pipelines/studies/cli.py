"""The commands `gee study …`. Heavy imports wait until a command needs them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

study = typer.Typer(help="Studies: grids of runs over seeds, with tables and plots.", no_args_is_help=True)
console = Console(markup=False)  # labels may hold brackets


@study.command("run")
def run_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file in studies/, without its ending.")],
    preset: Annotated[str | None, typer.Option(help="Start from this preset [default: the study's].")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, help="Runs of each cell [default: the study's].")] = None,
    data: Annotated[str | None, typer.Option(help="Where the images are: sets prepare.path.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells side by side [default: CPU cores; 1 on a GPU].")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, in every cell.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="COLUMN=LABEL: these cells alone; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run every cell, done or not.")] = False,
) -> None:
    """Run the cells of a study that have no result yet, then write its table and plots."""
    from pipelines.runtime.process_tree import exit_on_sigterm
    from pipelines.runtime.settings import Settings
    from pipelines.studies.display import show_progress
    from pipelines.studies.study import OUT, Request, run_study
    from pipelines.studies.tables import rich_tables

    Settings.read()
    exit_on_sigterm()
    if data is not None and isinstance(context.obj, Path):  # as the user wrote it, from where the command was given
        data = os.path.relpath(context.obj / data) if not Path(data).is_absolute() else data
    request = Request(name, preset, data, seeds, parse_changes(changes or []), parse_only(only or []))
    try:
        with show_progress(Console(stderr=True, markup=False)) as watch:
            tables = run_study(request, jobs, force, watch)
    except KeyboardInterrupt:
        Console(stderr=True, markup=False).print("gee: interrupted; the same command goes on where it stopped", highlight=False)
        raise typer.Exit(130) from None
    wide = console if console.is_terminal else Console(width=160, markup=False)
    for table in tables:
        for part in rich_tables(table.title, table.headers, table.rows):
            wide.print()
            wide.print(part)
    console.print(f"\nTables and plots   {OUT / name}", highlight=False, soft_wrap=True)


@study.command("list")
def list_command() -> None:
    """The studies of this project."""
    from pipelines.studies.definition import load_study, study_names

    for name in study_names():
        console.print(f"{name:<16} {load_study(name).title}", highlight=False, markup=False, soft_wrap=True)


@study.command("show")
def show_command(name: Annotated[str, typer.Argument(help="A file in studies/, without its ending.")]) -> None:
    """The table of a study's last run, or what it would run."""
    from pipelines.reporting.summary import read_json
    from pipelines.studies.definition import load_study
    from pipelines.studies.plan import draft_cells
    from pipelines.studies.study import OUT

    definition = load_study(name)
    about, table = OUT / name / "study.json", OUT / name / "table.md"
    if about.is_file() and table.is_file():
        values = read_json(about, "images", "dataset", "seeds", "commits", remedy="run the study again")
        images = ", ".join(f"{count} {split}" for split, count in values["images"].items())
        print(table.read_text(encoding="utf-8"))
        print(f"{values['dataset']} ({images}); seeds {values['seeds']}; commits {', '.join(values['commits'])}")
        return
    cells = draft_cells(name, definition)
    console.print(f"{definition.title}\nNot run yet: `gee study run {name}` runs {len(cells)} cells:", highlight=False)
    for label in dict.fromkeys(", ".join(f"{key} = {value}" for key, value in cell.columns.items()) for cell in cells):
        console.print(f"  {label}", highlight=False, markup=False)


def parse_only(choices: list[str]) -> dict[str, set[str]]:
    """``COLUMN=LABEL`` strings as labels by column.

    Raises:
        InputError: one has another form.
    """
    from gee_core.errors import InputError

    labels: dict[str, set[str]] = {}
    for choice in choices:
        column, equals, label = choice.partition("=")
        if not equals:
            raise InputError(f"--only {choice}: write COLUMN=LABEL, for instance network=ResNet-19")
        labels.setdefault(column.strip(), set()).add(label.strip())
    return labels


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """``section.key=value`` strings as values by key, read as YAML reads them.

    Raises:
        InputError: one has another form.
    """
    from gee_core.errors import InputError
    from pipelines.project.safe_yaml import parse_yaml

    values = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or "." not in key:
            raise InputError(f"--set {change}: write section.key=value, for instance train.epochs=5")
        try:
            values[key.strip()] = parse_yaml(text)
        except ValueError:
            raise InputError(f"--set {change}: {text!r} is not a YAML value") from None
    return values
