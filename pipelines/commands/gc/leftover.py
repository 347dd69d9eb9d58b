"""One kind of files that can be deleted."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Leftover:
    """Files or records of one kind that are deleted together."""

    what: str
    """Their kind, as shown to users."""
    place: str
    """Where they are, as shown to users."""
    count: int
    size: int | None
    """Bytes; None where it is unknown."""
    remove: Callable[[], None]
    """Deletes them."""


def below(path: Path) -> Iterator[Path]:
    """All files and folders below ``path``. Unlike ``Path.rglob`` it does not fail when one disappears meanwhile."""
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            yield Path(folder, name)


def tree_size(path: Path) -> int:
    """Bytes of all files at and below ``path``; links are not followed."""
    total = 0
    for file in [path, *below(path)]:
        with contextlib.suppress(FileNotFoundError):
            total += 0 if file.is_dir() and not file.is_symlink() else file.lstat().st_size
    return total


def newest_change(path: Path) -> float:
    """Time of the last write at or below ``path``, in seconds since 1970; infinity where nothing exists."""
    times = []
    for file in [path, *below(path)]:
        with contextlib.suppress(FileNotFoundError):
            times.append(file.lstat().st_mtime)
    return max(times, default=math.inf)
