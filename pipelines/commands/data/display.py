"""Shows what `gee data check` found."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from gee_core.data.meta import UNEVEN
from pipelines.commands.data.survey import Survey
from pipelines.project.safe_yaml import parse_yaml

CLASSES, EXAMPLES = 30, 3
"""How many classes, and how many files of a kind, are shown."""


def show(found: Survey, params: Path) -> None:
    """Print ``found``, and the lines to write into ``params``."""
    console = Console(markup=False, highlight=False)
    console.print(_table(found))
    for name, where in found.splits.items():
        console.print(f"{name:<11} {where}", soft_wrap=True)
    for name, text in _facts(found).items():
        console.print(f"{name:<11} {text}", soft_wrap=True)
    if found.params:
        console.print(f"\nIn {params}:\n\nprepare:")
        for key, value in found.params.items():
            console.print(f"  {key}: {_yaml(value)}", soft_wrap=True)


def _table(found: Survey) -> Table:
    classes = list(dict.fromkeys(name for counts in found.counts.values() for name in counts))
    table = Table("class", *(Column(split, justify="right") for split in found.counts))
    for name in classes[:CLASSES]:
        table.add_row(name, *(f"{counts[name]:,}" if name in counts else "–" for counts in found.counts.values()))
    if len(classes) > CLASSES:
        table.add_row(f"and {len(classes) - CLASSES} more", *("…" for _ in found.counts))
    table.add_section()
    table.add_row(f"all {len(classes)}", *(f"{sum(counts.values()):,}" for counts in found.counts.values()))
    return table


def _facts(found: Survey) -> dict[str, str]:
    facts = {}
    if found.sizes:
        few, middle, many = found.sizes.values()
        varied = f"{found.n_sizes:,} sizes from {few} to {many}, the median of the shorter sides is {middle}"
        facts["size"] = few if found.n_sizes == 1 else varied
        modes = ", ".join(f"{mode} {count:,}" for mode, count in found.modes.items())
        facts["mode"] = f"{modes}; read as {'grey' if found.in_channels == 1 else 'RGB'}"
    if found.ignored:
        facts["ignored"] = ", ".join(f"{count:,} {_shown(suffix)}" for suffix, count in list(found.ignored.items())[:8])
    if found.unread:
        facts["not read"] = ", ".join(found.unread[:8]) + (", …" if len(found.unread) > 8 else "")
    sizes = sorted((count, name) for name, count in _training(found).items())
    if sizes and sizes[-1][0] > UNEVEN * sizes[0][0]:
        (few, smallest), (many, largest) = sizes[0], sizes[-1]
        facts["uneven"] = f"{largest} has {many:,} training images, {smallest} has {few:,}"
    if found.duplicates:
        pairs = _examples([f"{test} = {train}" for test, train in found.duplicates])
        facts["duplicates"] = f"{len(found.duplicates):,} test images are also training images: {pairs}"
    if found.tiny:
        facts["tiny"] = f"{len(found.tiny):,} images would be enlarged more than twofold: {_examples(found.tiny)}"
    if found.one_colour:
        facts["one colour"] = f"{len(found.one_colour):,} images show nothing else: {_examples(found.one_colour)}"
    return facts


def _training(found: Survey) -> dict[str, int]:
    """Training images with the hold-out, by class."""
    held_out = found.counts.get("hold-out", {})
    return {name: count + held_out.get(name, 0) for name, count in found.counts.get("train", {}).items()}


def _examples(texts: Sequence[str]) -> str:
    return ", ".join(map(_shown, texts[:EXAMPLES])) + (", …" if len(texts) > EXAMPLES else "")


def _shown(name: str) -> str:
    """The name of a file without anything that a terminal would obey or cannot print."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _yaml(value: object) -> str:
    """``value`` as YAML; text without quotes where that means the same."""
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and parse_yaml(value) == value:
            return value
    return json.dumps(value, ensure_ascii=False)
