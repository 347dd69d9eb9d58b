"""Atomic writes: a file has its old content or all of the new, also after a kill or a power loss."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gee_core.errors import InputError

NOT_WRITABLE = "make it writable for this user, or work in another folder"
IN_THE_WAY = "a file lies where a folder should be: rename or move that file, or name another folder"

REMEDIES = {
    errno.ENOSPC: "free some space, then run it again",
    errno.EDQUOT: "free some of your quota, then run it again",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), then run it again",
    errno.EROFS: "mount it writable, or work in another folder",
    errno.EACCES: NOT_WRITABLE,
    errno.EPERM: NOT_WRITABLE,
    errno.EIO: "the disk reports a fault: check it, or work on another one",
    errno.EEXIST: IN_THE_WAY,
    errno.ENOTDIR: IN_THE_WAY,
    errno.EISDIR: "a folder of this name lies there: rename or move that folder, or name another file",
    errno.ENXIO: "a pipe or a device lies there: remove it, or name another file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "its folder is gone, or takes no new files: choose another folder",
}
"""The remedy for an error of the operating system in writing a file, by its number."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context that turns an error in writing ``path`` into an ``InputError`` if the user can fix it."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        reason = (error.strerror or os.strerror(error.errno)).lower()
        raise InputError(f"{path}: cannot be written ({reason})", REMEDIES[error.errno]) from None


def regular(path: Path) -> Path:
    """``path``. An ``OSError`` where a pipe or a device lies there: readers could wait forever, a file would take its place."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.ENXIO, "not a file", str(path))
    return path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to a temporary file next to ``path``, flush it to disk, then rename it. Permissions are kept.

    Raises InputError as `writing`, for a pipe or a device too. A link is replaced.
    """
    data = content.encode() if isinstance(content, str) else content
    prefix = f".{path.name}.{platform.node()}."
    with writing(path):
        if not path.is_symlink():
            regular(path)
        make_folder(path.parent)
        _remove_left_over(path.parent, prefix)
        temporary = path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(8)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                if path.is_file() and not path.is_symlink():
                    temporary.chmod(stat.S_IMODE(path.stat().st_mode))
                file.write(data)
                flush(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its missing parents, and flush their names to disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)


def _remove_left_over(folder: Path, prefix: str) -> None:
    """Delete the temporary files that begin with ``prefix`` and whose process no longer runs."""
    for file in folder.glob(f"{glob.escape(prefix)}*-*"):
        try:
            os.kill(int(file.name.removeprefix(prefix).partition("-")[0]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            continue


def flush(file: IO) -> None:
    """Flush what was written to the open ``file`` to disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to disk: until then a power loss may undo a rename or a new file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not support it
            raise
    finally:
        os.close(handle)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` as indented JSON, atomically. Raises ValueError where a number is not finite."""
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_state(path: Path) -> None:
    """Delete a saved state, its tensors in ``path`` and the JSON file next to it."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def forget_states(folder: Path, pattern: str) -> None:
    """Delete the states ``series-number.safetensors`` of every series whose name matches ``pattern``."""
    for path in folder.glob(f"{pattern}-[0-9]*.safetensors"):
        remove_state(path)
