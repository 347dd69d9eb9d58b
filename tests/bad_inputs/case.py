"""A bad input as data: how a project is spoilt, what is run in it, and what the user reads."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A row of the tables: in a project after ``change``, ``run`` ends with a message that holds ``says`` and ``remedy``."""

    run: str
    """A stage or a command line that begins with `gee`, each run end to end; or one of READERS, a function."""
    says: str
    remedy: str
    change: tuple[Change, ...]
    env: Mapping[str, str]
    messages: int
    """Problems, each with its own line."""

    def __str__(self) -> str:
        return ascii(f"{self.run}: {self.says}")[1:-1][:110]


def row(run: str, says: str, remedy: str, *change: Change, messages: int = 1, env: Mapping[str, str] | None = None) -> Case:
    return Case(run, says, remedy, change, env or {}, messages)


def edit(path: str, old: str, new: str) -> Change:
    """Replace the first match of ``old`` in a text file."""

    def change(folder: Path) -> None:
        text, n = re.subn(old, lambda _: new, (folder / path).read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
        assert n, old
        (folder / path).write_text(text, encoding="utf-8")

    return change


def params(**sections: dict[str, Any]) -> Change:
    """Other values in params.yaml, by section and name."""

    def change(folder: Path) -> None:
        yaml = YAML()
        values = yaml.load(folder / "params.yaml")
        for section, keys in sections.items():
            assert keys.keys() <= values[section].keys()
            values[section].update(keys)
        yaml.dump(values, folder / "params.yaml")

    return change


def write(path: str, content: bytes | str) -> Change:
    """Write a file, and the folders above it."""

    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(path: str) -> Change:
    """Remove a file or folder."""

    def change(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


def damage(path: str, spoil: Callable[[bytes], bytes]) -> Change:
    """Other bytes in a file, made from those that are there."""
    return lambda folder: (folder / path).write_bytes(spoil((folder / path).read_bytes()))


def cut(path: str) -> Change:
    """Keep the first half of a file."""
    return damage(path, lambda content: content[: len(content) // 2])


def flip(path: str, place: float = 0.5) -> Change:
    """Flip one bit of a file."""

    def flipped(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return damage(path, flipped)
