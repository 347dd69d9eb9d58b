"""The commands `gee data …`. Heavy imports wait until they run."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from gee_core.errors import printable
from pipelines.project.paths import PARAMS

if TYPE_CHECKING:
    from pipelines.commands.survey import Survey

CLASSES, EXAMPLES = 30, 3
"""How many classes, and how many files of a kind, are shown."""

MEANINGS = {
    "duplicates": "test images are also training images",
    "tiny": "images would be enlarged more than twofold",
    "one colour": "images show nothing else",
}
"""What is the matter with images of a kind."""

data = typer.Typer(help="Check what a run would read of your own images.", no_args_is_help=True)


@data.command("check")
def check_command(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="The folder with the images or recordings.")],
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, instead of reading its header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a run would read from a folder of images or recordings. Nothing is written.

    The splits follow params.yaml.
    The exit code is 2 if something in the folder would stop a run.

    gee data check photos
    gee data check recordings --decode --json
    """
    from gee_core.config import PrepareConfig
    from gee_core.errors import InputError
    from pipelines.commands.prediction import in_lines
    from pipelines.commands.survey import survey
    from pipelines.project.params import load_params, validate_values
    from pipelines.runtime.progress import progress

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    folder = Path(os.path.normpath(here / path))
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    own = {"dataset": "folder", "path": str(folder), "name": None, "image_size": None, "stream": False, "events": None}
    own |= {"max_train_images": None, "max_test_images": None}
    cfg = validate_values(PrepareConfig, load_params().prepare.model_dump() | own, "gee data check")
    with progress("look", None) as steps:
        result = survey(cfg, decode, steps)
    problems = list(map(str, result.problems))
    if as_json:
        print(json.dumps({"path": cfg.path} | vars(result) | {"problems": problems}))
    else:
        show(result)
    if problems:
        raise InputError(in_lines(problems))


def show(survey: "Survey") -> None:
    """Print ``survey``, and the lines to write into params.yaml."""
    from ruamel.yaml import YAML

    console = Console(markup=False, highlight=False)
    console.print(_table(survey.counts))
    for name, text in survey.facts.items():
        console.print(f"{name:<11} {printable(text)}", soft_wrap=True)
    for name, images in survey.images.items():
        if images:
            shown = f"{', '.join(images[:EXAMPLES])}{', …' if len(images) > EXAMPLES else ''}"
            console.print(f"{name:<11} {len(images):,} {MEANINGS[name]}: {printable(shown)}", soft_wrap=True)
    if survey.params:
        yaml: Any = YAML(typ="safe", pure=True)
        yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = False, False, 10**6
        print(f"\nIn {PARAMS}:\n")
        yaml.dump({"prepare": survey.params}, sys.stdout)


def _table(by_split: dict[str, dict[str, int]]) -> Table:
    classes = list(dict.fromkeys(name for counts in by_split.values() for name in counts))
    table = Table("class", *(Column(split, justify="right") for split in by_split))
    for name in classes[:CLASSES]:
        table.add_row(printable(name), *(f"{counts[name]:,}" if name in counts else "–" for counts in by_split.values()))
    if len(classes) > CLASSES:
        table.add_row(f"and {len(classes) - CLASSES} more", *("…" for _ in by_split))
    table.add_section()
    table.add_row(f"all {len(classes)}", *(f"{sum(counts.values()):,}" for counts in by_split.values()))
    return table
