"""One run at a time in a project, of `gee run` or a flow: the second one waits, and says which process it waits for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from gee_core.errors import InputError
from pipelines.project.paths import SCRATCH
from pipelines.runtime.process_tree import process_key

LOCK = SCRATCH / "flow.lock"

HOLDER = SCRATCH / "flow.holder"
"""File with the `process_key` of the last process that held the lock."""

WAITS = "this one waits for its end"
"""Follows `at_work`."""


@contextmanager
def flow_lock(project: Path, on_wait: Callable[[str], object] | None) -> Iterator[None]:
    """Hold the project's lock inside; a process that holds it may take it again.

    ``on_wait`` is told which process holds the lock, before waiting for it.

    Raises:
        InputError: another process holds the lock, and ``on_wait`` is None.
    """
    path = project.resolve() / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = at_work(project, _holder(project / HOLDER))
        if on_wait is None:
            raise InputError(holder, "wait for its end, or stop it") from None
        on_wait(f"{holder}; {WAITS}")
        lock.acquire()
    try:
        (project / HOLDER).write_text(process_key(psutil.Process()), encoding="utf-8")
        yield
    finally:
        lock.release()


def at_work(project: Path, who: str) -> str:
    """The message that another process runs stages of ``project``."""
    return f"another run is at work in {project.resolve()} ({who})"


def say(line: str) -> None:
    """Tell the user of a command."""
    print(f"gee: {line}", file=sys.stderr, flush=True)


def _holder(path: Path) -> str:
    try:
        host, pid, _ = path.read_text(encoding="utf-8").rsplit("/", 2)
        return f"process {pid} on {host}, since {datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}"
    except (OSError, ValueError):  # it holds the lock and has not written its key yet
        return "a process that has just started"
