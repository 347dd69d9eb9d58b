"""The command `gee preset`. Heavy imports wait until it runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipelines.project.paths import PARAMS, in_project

if TYPE_CHECKING:
    from pipelines.project.presets import Preset

console = Console(markup=False, highlight=False)


def preset(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Name of the preset; leave out to list them.")] = None,
    data: Annotated[str | None, typer.Option(help="Where the images are: sets prepare.path.")] = None,
    exp: Annotated[
        bool, typer.Option("--exp", metavar="", help="Queue it as a DVC experiment; params.yaml stays as it is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="The list as one JSON object.")] = False,
) -> None:
    """List the presets, replace params.yaml by one, or queue one as an experiment.

    Without a name: what each is for, what data it needs and how long it takes.
    With a name: params.yaml becomes the preset; what changes in it is printed.
    A params.yaml that was edited is kept as params.yaml.bak, and on a terminal you are asked first.

    gee preset
    gee preset cifar10-small --data /path/to/cifar10
    gee preset cifar10-small --exp
    """
    from gee_core.errors import InputError
    from pipelines.project.presets import is_edited, load_preset, write_preset
    from pipelines.project.watched_files import check_raw_folder

    if name is None:
        if data is not None:
            raise InputError(f"--data {data}: which preset is to read these images?", "write gee preset NAME --data FOLDER")
        if exp:
            raise InputError("--exp: which preset is to be queued?", "write gee preset NAME --exp")
        _list(as_json)
        return
    data = in_project(data, context.obj)
    found = load_preset(name, data)
    prepare = found.params.prepare
    if data is not None and not prepare.reads_path:
        raise InputError(f"--data {data}: the preset {name} reads scikit-learn's digits, no folder", "leave --data out")
    if not exp and sys.stdin.isatty() and is_edited():
        typer.confirm(f"{PARAMS} was edited. Replace it (a copy is kept)?", abort=True)
    for change in queue_preset(name, found) if exp else write_preset(found):
        console.print(f"  {change}")
    if exp:
        console.print(f"queued as the experiment {name}; {PARAMS} is unchanged")
        console.print("start it: `dvc queue start`   watch it: `dvc queue status`   compare it: `dvc exp show --only-changed`")
    else:
        console.print(f"{PARAMS.resolve()} is now the preset {name}; `gee run` runs it", soft_wrap=True)
        try:
            if not prepare.is_downloadable:  # for these, a run makes the folder
                check_raw_folder(prepare)
        except InputError as error:
            console.print(f"Before that: {error}")
    if data is not None and prepare.is_downloadable and not Path(data).is_dir():
        console.print(f"Warning: {data} is not there: {prepare.dataset} will be downloaded to it", soft_wrap=True)


def _list(as_json: bool) -> None:
    from rich.table import Column, Table

    from pipelines.project.presets import describe_presets

    if as_json:
        keys = ("what for", "data", "time")
        print(json.dumps({name: dict(zip(keys, row, strict=True)) for name, row in describe_presets().items()}))
        return
    wide, narrow = Column("what for", ratio=3), Column("time", ratio=2)
    table = Table(Column("preset", no_wrap=True), wide, Column("data", ratio=2), narrow, expand=True)
    for name, columns in describe_presets().items():
        table.add_row(name, *columns, end_section=True)
    console.print(table)
    console.print("gee preset NAME [--data FOLDER] writes it to params.yaml; then: gee run")


def queue_preset(name: str, preset: "Preset") -> list[str]:
    """Queue ``preset`` as the DVC experiment ``name``; its changes to params.yaml as ``key=value``, which DVC makes in a copy.

    Raises:
        InputError: params.yaml is not valid, the folder of the images is missing, or DVC cannot queue it.
    """
    from gee_core.errors import InputError
    from pipelines.orchestration.request import experiment_changes
    from pipelines.project.params import check_params, load_params
    from pipelines.project.watched_files import check_raw_folder

    load_params()
    values, changes = experiment_changes(preset.values, preset.params, Path())
    check_raw_folder(check_params(values, f"presets/{name}.yaml").prepare)
    command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name]
    done = subprocess.run([*command, *(f"--set-param={change}" for change in changes)], capture_output=True, text=True)
    if done.returncode != 0:
        problem = " ".join(line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: "))
        remedy = "it takes a git commit, and no other experiment of this name (`dvc exp remove`, `dvc queue remove`)"
        raise InputError(f"DVC cannot queue the experiment {name!r} ({problem or done.stderr.strip()})", remedy)
    return changes
