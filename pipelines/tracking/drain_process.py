"""The drain as a stage sees it: started where none is at work, and waited for at the end, but not for a server that is away."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipelines.project.paths import find_project, original_project
from pipelines.runtime.process_tree import is_gone
from pipelines.tracking.outbox import Outbox

log = logging.getLogger("pipelines.tracking")

COMMAND = [sys.executable, "-m", "pipelines.tracking.drain"]

INTERVAL = 0.2
"""Seconds between two looks at the outboxes."""

LIMIT, LIMIT_OF_KILLED, RETRY = 60.0, 5.0, 2.0
"""Seconds that the end of a run, or of one that was stopped, gives a server that answers; and one that does not."""

START = 10.0
"""Seconds until a drain that was started is at work, also on a busy machine."""

_started = {"at": -START}


class State(BaseModel):
    """What the drain is doing, in drain.json beside the outboxes."""

    process: str
    """Its `process_key`."""
    trouble: str = ""
    """Why MLflow does not get what waits."""

    def write(self, root: Path) -> None:
        """Write it to disk."""
        with contextlib.suppress(OSError):  # no space
            (root / "drain.json").write_text(self.model_dump_json())

    @classmethod
    def read(cls, root: Path) -> "State | None":
        """That of a living drain of this machine, or None."""
        with contextlib.suppress(OSError, ValidationError):
            state = cls.model_validate_json((root / "drain.json").read_bytes())
            if state.process.startswith(f"{socket.gethostname()}/") and not is_gone(state.process):
                return state
        return None


def start(root: Path) -> None:
    """Start a drain for the outboxes below ``root``, unless one is at work. It outlives this process and what started that."""
    if State.read(root) or time.monotonic() - _started["at"] < START:
        return
    _started["at"] = time.monotonic()
    code, project = Path(__file__).resolve().parents[2], original_project(find_project())
    path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.suppress(OSError), (root / "drain.log").open("ab") as output:
        shell = ["/bin/sh", "-c", '"$@" &', "sh", *COMMAND]  # whose child is nobody's, so that no signal for a stage reaches it
        env, nothing = os.environ | {"PYTHONPATH": path}, subprocess.DEVNULL
        subprocess.run(shell, cwd=project, env=env, stdin=nothing, stdout=output, stderr=output, start_new_session=True)


def wait(outbox: Outbox, status: str) -> str | None:
    """Wait until ``outbox``, of a run that ends with ``status``, is written; a warning says what is left. Returns its page."""
    root, begin, why = outbox.folder.parent, time.monotonic(), ""
    limit = LIMIT_OF_KILLED if status == "KILLED" else LIMIT
    while outbox.folder.is_dir() and time.monotonic() - begin < (RETRY if why else limit):
        start(root)
        time.sleep(INTERVAL)
        why = state.trouble if (state := State.read(root)) else ""
    if outbox.folder.is_dir():
        left = "MLflow: %d entries are not written yet (%s); they wait in %s: the next run writes them, or `gee track replay`"
        log.warning(left, outbox.waiting(), why or "it is slow", root)
    page = root / f"{outbox.name}.address"
    if not page.is_file():
        return None
    address = page.read_text()
    page.unlink()
    return address
