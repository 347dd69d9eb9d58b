"""A bad input as data: how a project is spoilt, what is run in it, and what the user reads."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A row of the tables of bad inputs: what the user reads, and what is run in a project after ``change``."""

    run: str
    """A stage or a command line that begins with `gee`, each run end to end; or one of READERS, a function."""
    says: str
    """What is wrong and where, as the message has it."""
    remedy: str
    """What it tells the user to do."""
    change: tuple[Change, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    messages: int = 1
    """Problems, each with its own line."""

    def __str__(self) -> str:
        return ascii(f"{self.run}: {self.says}")[1:-1][:110]


def row(run: str, says: str, remedy: str, *change: Change, messages: int = 1, env: Mapping[str, str] | None = None) -> Case:
    return Case(run, says, remedy, change, env or {}, messages)


def edit(path: str, old: str, new: str) -> Change:
    """Replace the first match of ``old`` in a text file."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        assert re.search(old, text, re.MULTILINE), old
        (folder / path).write_text(re.sub(old, lambda _: new, text, count=1, flags=re.MULTILINE), encoding="utf-8")

    return change


def param(key: str, value: str) -> Change:
    """Set ``section.key`` in params.yaml to ``value``, as YAML."""
    section, name = key.split(".")

    def change(folder: Path) -> None:
        path = folder / "params.yaml"
        head, mark, tail = path.read_text(encoding="utf-8").partition(f"\n{section}:\n")
        if not mark:
            head, mark, tail = "", f"{section}:\n", path.read_text(encoding="utf-8").removeprefix(f"{section}:\n")
        line = f"  {name}: {value}\n".replace("\\", r"\\")
        found, n = re.subn(rf"^  {name}:(.*\n)(  - .*\n)*", line, tail, count=1, flags=re.MULTILINE)
        assert n == 1, key
        path.write_text(head + mark + found, encoding="utf-8")

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


def cut(path: str, part: float = 0.5) -> Change:
    """Keep the first ``part`` of a file."""

    def change(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: int(part * len(content))])

    return change


def flip(path: str, place: float = 0.5) -> Change:
    """Flip one bit in the middle of a file."""

    def change(folder: Path) -> None:
        content = bytearray((folder / path).read_bytes())
        content[int(place * len(content))] ^= 1
        (folder / path).write_bytes(content)

    return change


def link(path: str, target: str) -> Change:
    """Make ``path`` a link."""

    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target)

    return change
