"""The commands `gee preset …`. Heavy imports wait until a command needs them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.project.paths import PARAMS, check_raw_folder, in_project

preset = typer.Typer(help="List the ready-made params.yaml files, or use one of them.", no_args_is_help=True)
console = Console(markup=False, highlight=False)
Data = Annotated[str | None, typer.Option(help="Folder with the images. Sets prepare.path.")]


@preset.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON object: texts by preset.")] = False) -> None:
    """List the presets: what each is for, the data that it needs and how long it takes.

    gee preset list
    """
    from rich.table import Column, Table

    from gee_core.errors import printable
    from pipelines.project.presets import describe_presets

    if as_json:
        keys = ("what_for", "data", "time")
        print(json.dumps({name: dict(zip(keys, row, strict=True)) for name, row in describe_presets().items()}))
        return
    wide, narrow = Column("what for", ratio=3), Column("time", ratio=2)
    table = Table(Column("preset", no_wrap=True), wide, Column("data", ratio=2), narrow, expand=True)
    for name, columns in describe_presets().items():
        table.add_row(*map(printable, (name, *columns)), end_section=True)
    console.print(table)
    console.print("gee preset use NAME [--data FOLDER] writes it to params.yaml; then: gee run")


@preset.command("use")
def use_command(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the preset.")], data: Data = None
) -> None:
    """Replace params.yaml by a preset, and print what changes in it.

    If you edited params.yaml, it is kept as params.yaml.bak.

    gee preset use cifar10-small --data /path/to/cifar10
    """
    from gee_core.errors import InputError, printable
    from pipelines.project.presets import load_preset, write_preset

    data = in_project(data, context.obj)
    chosen = load_preset(name, data)
    prepare = chosen.params.prepare
    if data is not None and not prepare.reads_path:
        raise InputError(f"--data {data}: the preset {name} reads scikit-learn's digits, no folder", "leave --data out")
    if data is not None and prepare.is_downloadable and not Path(data).is_dir():
        console.print(f"Warning: {data} is not there: {prepare.dataset} will be downloaded to it", soft_wrap=True)
    for change in write_preset(chosen):
        console.print(f"  {printable(change)}")
    console.print(f"{PARAMS.resolve()} is now the preset {name}; `gee run` runs it", soft_wrap=True)
    try:
        if not prepare.is_downloadable:  # for these, a run makes the folder
            check_raw_folder(prepare)
    except InputError as error:
        console.print(f"Before that: {error}")
