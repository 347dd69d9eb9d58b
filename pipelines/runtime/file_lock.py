"""Locks between processes of this machine. The kernel releases the lock of a process that is killed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gee_core.storage.atomic_files import writing


@contextmanager
def file_lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``path`` inside. Yields whether it is held: without ``wait``, False if another process holds it.

    Raises:
        InputError: the file cannot be written.
    """
    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=-1 if wait else 0)
    try:
        yield lock.is_locked
    finally:
        lock.release()
