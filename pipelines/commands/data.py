"""The commands `gee data …`. Heavy imports wait until they run."""

import json
import os
import sys
from dataclasses import asdict
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

data = typer.Typer(help="Your own images: what a run would read.", no_args_is_help=True)


@data.command("check")
def check_command(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="The folder with the images or recordings.")],
    name: Annotated[str | None, typer.Option(help="Name of the images (default: that of the folder).")] = None,
    size: Annotated[int | None, typer.Option(help="The image_size to check for (default: one is proposed).")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, instead of reading its header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a run would read from a folder of images or recordings; nothing is written.

    The shares of the splits are those of params.yaml.
    The exit code is 2 if something in the folder would stop a run.

    gee data check photos
    gee data check recordings --decode --json
    """
    from gee_core.config import PrepareConfig
    from gee_core.errors import InputError
    from pipelines.commands.images import raise_all
    from pipelines.commands.survey import survey
    from pipelines.project.params import load_params, validated
    from pipelines.runtime.progress import progress

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    folder = Path(os.path.normpath(here / path))
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    own = {"dataset": "folder", "path": str(folder), "name": name, "image_size": size, "stream": False, "events": None}
    own |= {"max_train_images": None, "max_test_images": None}
    cfg = validated(PrepareConfig, load_params().prepare.model_dump() | own, "gee data check")
    with progress("look", None) as steps:
        result = survey(cfg, size, decode, steps)
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        show(result)
    raise_all([InputError(problem) for problem in result.problems])


def show(survey: "Survey") -> None:
    """Print ``survey``, and the lines to write into params.yaml."""
    from ruamel.yaml import YAML

    console = Console(markup=False, highlight=False)
    console.print(_table(survey.counts))
    for name, text in {**survey.splits, **_facts(survey)}.items():
        console.print(f"{name:<11} {printable(text)}", soft_wrap=True)
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


def _facts(survey: "Survey") -> dict[str, str]:
    from gee_core.data.meta import UNEVEN

    facts = dict(survey.recordings)
    if survey.sizes:
        few, middle, many = survey.sizes.values()
        varied = f"{survey.n_sizes:,} sizes from {few} to {many}, the median of the shorter sides is {middle}"
        facts["size"] = few if survey.n_sizes == 1 else varied
        modes = ", ".join(f"{mode} {count:,}" for mode, count in survey.modes.items())
        facts["mode"] = f"{modes}; read as {'grey' if survey.in_channels == 1 else 'RGB'}"
    if survey.ignored:
        facts["ignored"] = ", ".join(f"{count:,} {suffix}" for suffix, count in list(survey.ignored.items())[:8])
    if survey.unread:
        facts["not read"] = ", ".join(survey.unread[:8]) + (", …" if len(survey.unread) > 8 else "")
    held_out = survey.counts.get("hold-out", {})
    sizes = sorted((count + held_out.get(name, 0), name) for name, count in survey.counts.get("train", {}).items())
    if sizes and sizes[-1][0] > UNEVEN * sizes[0][0]:
        (least, smallest), (most, largest) = sizes[0], sizes[-1]
        facts["uneven"] = f"{largest} has {most:,} training images, {smallest} has {least:,}"
    same = [f"{test} = {train}" for test, train in survey.duplicates]
    for name, meaning, images in (
        ("duplicates", "test images are also training images", same),
        ("tiny", "images would be enlarged more than twofold", survey.tiny),
        ("one colour", "images show nothing else", survey.one_colour),
    ):
        if images:
            more = ", …" if len(images) > EXAMPLES else ""
            facts[name] = f"{len(images):,} {meaning}: {', '.join(images[:EXAMPLES])}{more}"
    return facts
