"""Finds what a killed flow leaves behind: flow runs that still count as running, and the server that it had started.

Both carry the `process_key` of their flow: the runs as a tag, the server in its environment.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from pipelines.runtime.process_tree import end_processes, is_gone

TAG = "gee.process="
"""Prefix of the tag with the process of a flow run."""

OWNER = "GEE_FLOW_PROCESS"
"""Environment variable with the process of a flow; a server that Prefect starts for the flow inherits it."""

GRACE = timedelta(minutes=10)
"""How long a flow run may count as started before a process has tagged it."""


def why_abandoned(tags: list[str], since: datetime, now: datetime) -> str | None:
    """Why no process works on an unfinished flow run any more; None if one may. ``since``: the time of its present state."""
    keys = [tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)]
    for key in keys:
        if is_gone(key):
            host, pid, _ = key.rsplit("/", 2)
            return f"its process {pid} on {host} ended without reporting it (killed, out of memory, power loss)"
    if not keys and now - since > GRACE:
        return f"no process has started it within {GRACE.seconds // 60} minutes"
    return None


def end_orphaned_servers(home: Path) -> list[int]:
    """End the temporary servers of dead flows that keep their state in ``home``; returns their PIDs."""
    orphans = list(orphaned_servers(psutil.process_iter(), home))
    end_processes(orphans, grace=5)
    return [server.pid for server in orphans]


def orphaned_servers(processes: Iterable[psutil.Process], home: Path) -> Iterator[psutil.Process]:
    """The servers among ``processes`` that Prefect started for a dead flow with this ``home``.

    The user's own servers (`prefect server start`) do not count: they lack the mark of servers that Prefect starts itself, and
    they name no flow.
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
