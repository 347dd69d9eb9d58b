"""What a run needs: to be the only one in the project, of `gee run` or a flow, and a dvc.lock that DVC can read."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically
from pipelines.project.paths import LOCK as DVC_LOCK
from pipelines.project.paths import SCRATCH
from pipelines.project.safe_yaml import read_yaml
from pipelines.runtime.process_tree import file_lock

LOCK = SCRATCH / "flow.lock"
COPY = SCRATCH / DVC_LOCK
"""dvc.lock as it was when the last run began, empty where there was none."""


@contextmanager
def flow_lock() -> Iterator[bool]:
    """Hold the project's lock inside. Says that it waits where another process holds it; yields whether it has waited."""
    with ExitStack() as stack:
        is_free = stack.enter_context(file_lock(LOCK, wait=False))
        if not is_free:
            say(f"another run is at work in {Path.cwd()} (`gee status` names it); this one waits for its end")
            stack.enter_context(file_lock(LOCK))
        yield not is_free


def say(line: str) -> None:
    """Print a line about the command that runs."""
    print(f"gee: {line}", file=sys.stderr, flush=True)


@contextmanager
def whole_dvc_lock() -> Iterator[None]:
    """Let DVC run inside, and put dvc.lock back as it was if DVC was stopped while it wrote the file, now or in the last run.

    DVC empties the file and then writes it, after every stage. What the stages have done since is in DVC's cache.

    Raises:
        InputError: dvc.lock is damaged, and there is no copy.
    """
    if COPY.is_file():
        _put_back()
    check_dvc_lock()
    write_atomically(COPY, DVC_LOCK.read_bytes() if DVC_LOCK.is_file() else b"")
    try:
        yield
    except BaseException:
        _put_back()
        raise


def check_dvc_lock() -> None:
    """Check that DVC can read dvc.lock, if there is one.

    Raises:
        InputError: it is damaged; the message has the command that helps.
    """
    if _is_damaged():
        remedy = f"`git checkout {DVC_LOCK}` restores it; without git, delete it: DVC's cache has the results"
        raise InputError(f"{DVC_LOCK}: damaged", remedy)


def _put_back() -> None:
    """Replace a damaged dvc.lock by its copy, or delete it where there was none."""
    if _is_damaged() and b"\n<<<<<<< " not in DVC_LOCK.read_bytes():  # a merge in git, which a person has to end
        if before := COPY.read_bytes():
            write_atomically(DVC_LOCK, before)
        else:
            DVC_LOCK.unlink()
        say(f"{DVC_LOCK} was damaged when DVC was stopped, and is again as it was before: DVC's cache has what ran since")


def _is_damaged() -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        if DVC_LOCK.is_file():
            COMPILED_LOCKFILE_SCHEMA(read_yaml(DVC_LOCK))
    except (ValueError, Invalid):
        return True
    return False
