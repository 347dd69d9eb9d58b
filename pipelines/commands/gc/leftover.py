"""One kind of files that can be deleted."""

import contextlib
import math
import os
import stat
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
    return sum(found.st_size for found in _stats(path) if not stat.S_ISDIR(found.st_mode))


def newest_change(path: Path) -> float:
    """Time of the last write at or below ``path``, in seconds since 1970; infinity where nothing exists."""
    return max((found.st_mtime for found in _stats(path)), default=math.inf)


def _stats(path: Path) -> Iterator[os.stat_result]:
    for file in [path, *below(path)]:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()
