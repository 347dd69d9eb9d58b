"""What a flow that was killed leaves behind: flow runs that stand as running, and the server that it had started.

Both carry the `process_key` of their flow, the one as a tag, the other in its environment.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import psutil

from pipelines.runtime.process_tree import is_gone

TAG = "gee.process="
"""Start of the tag with the process of a flow run."""

OWNER = "GEE_FLOW_PROCESS"
"""Environment variable with the process of a flow, which a server that Prefect starts for it inherits."""

GRACE = timedelta(minutes=10)
"""How long a flow run may stand as started without a process that has put its tag on it."""


class FlowRun(Protocol):
    """What of a Prefect flow run counts here."""

    tags: list[str]
    state: "State"


class State(Protocol):
    timestamp: datetime


def why_abandoned(run: FlowRun, now: datetime) -> str | None:
    """Why nobody works any more on a run that has started and not ended; None where somebody may."""
    keys = [tag.removeprefix(TAG) for tag in run.tags if tag.startswith(TAG)]
    for key in keys:
        if is_gone(key):
            host, pid, _ = key.rsplit("/", 2)
            return f"its process {pid} on {host} ended without a word (killed, out of memory, power loss)"
    if not keys and now - run.state.timestamp > GRACE:
        return f"no process has taken it up in {GRACE.seconds // 60} minutes"
    return None


def end_orphaned_servers(home: Path) -> list[int]:
    """End the temporary servers of flows that are gone, of those that keep their state in ``home``; their PIDs."""
    orphans = list(orphaned_servers(psutil.process_iter(), home))
    for server in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.terminate()
    for server in psutil.wait_procs(orphans, timeout=5)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.kill()
    return [server.pid for server in orphans]


def orphaned_servers(processes: Iterable[psutil.Process], home: Path) -> Iterator[psutil.Process]:
    """Those of ``processes`` that are servers which Prefect started for a flow with this ``home`` that is gone.

    A server of the user's own (`prefect server start`) is none: Prefect marks those that it starts by itself, and
    only one that a flow of this project started names that flow.
    """
    for process in processes:
        try:
            if "prefect.server.api.server:create_app" not in process.cmdline():
                continue
            found = process.environ()
            if found.get("PREFECT__SERVER_EPHEMERAL") != "1" or not is_gone(found.get(OWNER, "unknown/0/0")):
                continue
            if (Path(process.cwd()) / found["PREFECT_HOME"]).resolve() == home.resolve() and process.uids().real == os.getuid():
                yield process
        except (psutil.Error, KeyError):
            continue
