"""One run at a time in a project, of `gee run`, a flow or `dvc repro`: the second run waits, and names the first."""

import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from gee_core.errors import InputError
from pipelines.project.paths import LOCK as DVC_LOCK
from pipelines.project.paths import SCRATCH
from pipelines.project.safe_yaml import parse_yaml

LOCK = SCRATCH / "flow.lock"
HOLDER = SCRATCH / "flow.holder"
"""File that names the last process that held the lock."""

RWLOCK = Path(".dvc/tmp/rwlock")
"""DVC's list of the files that running `dvc` processes read and write."""

DVC_ERROR = 255
"""The code with which `dvc` exits, whatever went wrong."""

RESTORE = f"`git checkout {DVC_LOCK}` restores the file of the last commit"
"""Where DVC cannot read dvc.lock."""


@contextmanager
def flow_lock(project: Path, on_wait: Callable[[str], object] | None) -> Iterator[None]:
    """Hold the project's lock inside; a process that holds it may take it again.

    ``on_wait`` is told which process holds the lock, before waiting for it.

    Raises:
        InputError: another process holds the lock, and ``on_wait`` is None.
    """
    path, holder = project.resolve() / LOCK, project / HOLDER
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "a process that has just started"
        if on_wait is None:
            raise InputError(_at_work(project, who), "wait for its end, or stop it") from None
        on_wait(f"{_at_work(project, who)}; this one waits for its end")
        lock.acquire()
    try:
        since = f"since {datetime.now():%Y-%m-%d %H:%M}"
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, {since}", encoding="utf-8")
        yield
    finally:
        lock.release()


def _at_work(project: Path, who: str) -> str:
    return f"another run is at work in {project.resolve()} ({who})"


def say(line: str) -> None:
    """Tell the user of a command."""
    print(f"gee: {line}", file=sys.stderr, flush=True)


def wait_for_other_dvc(project: Path, say: Callable[[str], object]) -> bool:
    """Wait for the end of a `dvc` that has locked files of the project; whether there was one. ``say`` is told which.

    `dvc --wait-for-lock` does not wait for the files of another `dvc`'s stage.
    """
    try:
        found = json.loads((project / RWLOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or a `dvc` is writing it
        return False
    for user in [*found.get("write", {}).values(), *itertools.chain(*found.get("read", {}).values())]:
        try:
            process = psutil.Process(user["pid"])
            if not any("dvc" in word for word in process.cmdline()):  # DVC was killed, and another process has its PID
                continue
        except psutil.Error:
            continue
        command = re.sub(r"^\S*/dvc(/__main__\.py)?\b", "dvc", user["cmd"])
        say(f"{_at_work(project, f'process {process.pid}, `{command}`')}; this one waits for its end")
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
        return True
    return False


def check_dvc_files(project: Path) -> None:
    """Check DVC's two files: it writes them in place, so a kill or a full disk can cut them off.

    Raises:
        InputError: one of them is damaged; the message has the command that helps.
    """
    for path, read, remedy in (
        (DVC_LOCK, parse_yaml, f"{RESTORE}; without git, delete it: DVC's cache has the results"),
        (RWLOCK, json.loads, f"`rm {RWLOCK}` where no other `dvc` runs"),
    ):
        try:
            if (project / path).is_file() and not isinstance(read((project / path).read_text(encoding="utf-8")), dict):
                raise ValueError("not a mapping")
        except ValueError:
            raise InputError(f"{path}: damaged", remedy) from None
