"""One flow run at a time in a project: whoever comes second waits, and says for whom.

The lock is the kernel's (flock), so that a holder that is killed gives it free. The file holds the `process_key` of the last
holder and stays where it is.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from gee_core.errors import InputError
from pipelines.project.paths import SCRATCH
from pipelines.runtime.process_tree import process_key

LOCK = SCRATCH / "flow.lock"

_held: set[Path] = set()


@contextmanager
def flow_lock(project: Path, on_wait: Callable[[str], object] | None) -> Iterator[None]:
    """Alone in ``project``; ``on_wait`` hears for whom it waits. This process may take the lock again while it has it.

    Raises:
        InputError: another process has the lock, and ``on_wait`` is None: not to wait.
    """
    path = project.resolve() / LOCK
    if path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f"another flow run is at work in {project} ({_holder(file.read())})"
            if on_wait is None:
                raise InputError(f"{holder}; wait for its end, or stop it") from None
            on_wait(f"{holder}; this one waits for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(process_key(psutil.Process()))
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            file.truncate(0)


def _holder(key: str) -> str:
    try:
        host, pid, started = key.rsplit("/", 2)
        return f"process {pid} on {host}, since {datetime.fromtimestamp(int(started)):%Y-%m-%d %H:%M}"
    except ValueError:  # read between its start and the writing of its key
        return "a process that has just started"
