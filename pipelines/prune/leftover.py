"""Something that takes disk and may go, of whatever kind."""

import contextlib
from collections.abc import Callable
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


def tree_size(path: Path) -> int:
    """Bytes of all files at and below ``path``; links count as themselves."""
    total = 0
    for file in [path, *path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            total += 0 if file.is_dir() and not file.is_symlink() else file.lstat().st_size
    return total


def newest_change(path: Path) -> float:
    """When anything at or below ``path`` was last written, in seconds since 1970."""
    newest = path.lstat().st_mtime
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, file.lstat().st_mtime)
    return newest
