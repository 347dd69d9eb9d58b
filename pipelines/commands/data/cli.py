"""The commands `gee data …`. Heavy imports wait until they run."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pipelines.project.paths import PARAMS

data = typer.Typer(help="Your own images: what would be read, before anything runs.", no_args_is_help=True)


@data.command("check")
def check_command(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="The folder with the images.")],
    name: Annotated[str | None, typer.Option(help="Name of the images (default: that of the folder).")] = None,
    size: Annotated[int | None, typer.Option(help="The image_size to check for (default: one is proposed).")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, instead of reading its header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line.")] = False,
) -> None:
    """Show what prepare would read from a folder of images; exit code 2 if something in it would stop prepare.

    The shares of the splits are those of params.yaml. Nothing is written.
    """
    from dataclasses import asdict

    from gee_core.config import PrepareConfig
    from gee_core.errors import InputError
    from pipelines.commands.data.display import show
    from pipelines.commands.data.survey import survey
    from pipelines.project.params import load_params, validated
    from pipelines.runtime.progress import progress

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    folder = Path(os.path.normpath(here / path))
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    own = {"dataset": "folder", "path": str(folder), "name": name, "image_size": size, "stream": False}
    own |= {"max_train_images": None, "max_test_images": None}
    cfg = validated(PrepareConfig, load_params().prepare.model_dump() | own, "gee data check")
    with progress("look", None) as steps:
        found = survey(cfg, size, decode, lambda what, done, total: steps.at(done, what, total))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        show(found, PARAMS)
    if found.problems:
        shown, rest = found.problems[:20], len(found.problems) - 20
        raise InputError("\n".join([*shown, *([f"and {rest} more; --json lists them all"] if rest > 0 else [])]))
