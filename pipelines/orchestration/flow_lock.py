"""What a run needs: to be the only one in the project, of `gee run` or a flow, and a dvc.lock that DVC can read."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from gee_core.errors import InputError
from pipelines.project.paths import LOCK as DVC_LOCK
from pipelines.project.paths import SCRATCH
from pipelines.project.safe_yaml import read_yaml
from pipelines.runtime.process_tree import file_lock

LOCK = SCRATCH / "flow.lock"
HOLDER = SCRATCH / "flow.holder"
"""File that names the last process that held the lock."""


@contextmanager
def flow_lock(project: Path, on_wait: Callable[[str], object] | None) -> Iterator[None]:
    """Hold the project's lock inside.

    ``on_wait`` is told which process holds the lock, before waiting for it.

    Raises:
        InputError: another process holds the lock, and ``on_wait`` is None.
    """
    holder = project / HOLDER
    with ExitStack() as stack:
        if not stack.enter_context(file_lock(project / LOCK, wait=False)):
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "a process that has just started"
            at_work = f"another run is at work in {project.resolve()} ({who})"
            if on_wait is None:
                raise InputError(at_work, "wait for its end, or stop it")
            on_wait(f"{at_work}; this one waits for its end")
            stack.enter_context(file_lock(project / LOCK))
        since = f"since {datetime.now():%Y-%m-%d %H:%M}"
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, {since}", encoding="utf-8")
        yield


def say(line: str) -> None:
    """Tell the user of a command."""
    print(f"gee: {line}", file=sys.stderr, flush=True)


def check_dvc_lock(project: Path) -> None:
    """Check dvc.lock: DVC writes it in place, so a kill or a full disk can cut it off.

    Raises:
        InputError: it is damaged; the message has the command that helps.
    """
    try:
        if (project / DVC_LOCK).is_file() and not isinstance(read_yaml(project / DVC_LOCK), dict):
            raise ValueError("not a mapping")
    except ValueError:
        restore = f"`git checkout {DVC_LOCK}` restores the file of the last commit"
        raise InputError(f"{DVC_LOCK}: damaged", f"{restore}; without git, delete it: DVC's cache has the results") from None
