"""Something that takes disk and may go, of whatever kind."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Leftover:
    """Things of one kind that go together."""

    what: str
    """Their kind, for people."""
    place: str
    """Where they lie, for people."""
    count: int
    size: int | None
    """Bytes; None where only their owner knows."""
    remove: Callable[[], None]
    """Removes them."""


def below(path: Path) -> Iterator[Path]:
    """All files and folders below ``path``; one that goes away meanwhile is left out, where ``Path.rglob`` would fail."""
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            yield Path(folder, name)


def tree_size(path: Path) -> int:
    """Bytes of all files at and below ``path``; links count as themselves."""
    total = 0
    for file in [path, *below(path)]:
        with contextlib.suppress(FileNotFoundError):
            total += 0 if file.is_dir() and not file.is_symlink() else file.lstat().st_size
    return total


def newest_change(path: Path) -> float:
    """When anything at or below ``path`` was last written, in seconds since 1970; infinity where nothing is."""
    times = []
    for file in [path, *below(path)]:
        with contextlib.suppress(FileNotFoundError):
            times.append(file.lstat().st_mtime)
    return max(times, default=math.inf)
