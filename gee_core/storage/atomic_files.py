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
from typing import IO

from gee_core.errors import InputError

REMEDIES = {
    errno.ENOSPC: "free some space, then run it again",
    errno.EDQUOT: "free some of your quota, then run it again",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), then run it again",
    errno.EROFS: "mount it writable, or work in another folder",
    errno.EACCES: "make it writable for this user, or work in another folder",
    errno.EPERM: "make it writable for this user, or work in another folder",
    errno.EIO: "the disk reports a fault: check it, or work on another one",
    errno.EEXIST: "a file lies where a folder should be: rename or move that file, or name another folder",
    errno.ENOTDIR: "a file lies where a folder should be: rename or move that file, or name another folder",
    errno.EISDIR: "a folder of this name lies there: rename or move that folder, or name another file",
    errno.ENOENT: "its folder is gone, or takes no new files: choose another folder",
}
"""What the user can do about an error of the operating system in writing a file, by its number."""


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


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to a temporary file beside ``path``, flush it to disk, then rename it to ``path``.

    Who may read and write the file is what it was before; of a new one, what the umask says.
    Temporary files of processes of this machine that were killed are deleted.

    Raises:
        InputError: the disk is full, or the folder is not writable; the old content of ``path`` is kept.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        make_folder(path.parent)
        _remove_left_over(path)
        temporary = path.with_name(f"{_temporary_prefix(path)}{os.getpid()}-{secrets.token_hex(8)}")
        handle = _create(temporary)
        try:
            with os.fdopen(handle, "wb") as file:
                _keep_mode(path, temporary)
                file.write(data)
                flush(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def _create(path: Path) -> int:
    """Create a file that was not there, with the permissions that the umask leaves; its handle."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _keep_mode(path: Path, temporary: Path) -> None:
    """Give ``temporary`` the permissions of the file ``path``, if there is one, and no link to another."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        temporary.chmod(mode & 0o777)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its missing parents, and flush their names to disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)


def _temporary_prefix(path: Path) -> str:
    """How the names of this machine's temporary files for ``path`` begin, up to the PID."""
    return f".{path.name}.{platform.node()}."


def _remove_left_over(path: Path) -> None:
    """Delete temporary files for ``path`` whose process, of this machine, no longer runs."""
    prefix = _temporary_prefix(path)
    for file in path.parent.glob(f"{glob.escape(prefix)}*-*"):
        pid = file.name.removeprefix(prefix).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):
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


def write_json(path: Path, values: dict) -> None:
    """Write ``values`` as indented JSON, atomically, with the keys in their order.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.
    """
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
