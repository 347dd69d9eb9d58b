"""The Prefect server: whether it answers, and which flow runs in it are abandoned or old."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from gee_core.errors import InputError
from pipelines.orchestration.notify import notify
from pipelines.runtime.process_tree import end_processes, is_gone, process_key
from pipelines.tracking.pipeline_run import FLOW_RUN
from pipelines.tracking.redact import bare, redact

PIPELINE, STUDY = "gee", "gee-study"
"""Names of the flows, by which Prefect finds their runs."""

OURS = FlowFilter.model_validate({"name": {"any_": [PIPELINE, STUDY]}})

TAG = "gee.process="
"""Prefix of the tag with the process of a flow run."""

OWNER = "GEE_FLOW_PROCESS"
"""Environment variable with the process of a flow; the temporary server that Prefect starts for the flow inherits it."""

SECONDS = 20
"""How long the server may take to answer whether it is there."""

REMEDY = "start `prefect server start` and set PREFECT_API_URL, for example http://127.0.0.1:4200/api"


def check_server(needed_for: str | None = None) -> None:
    """Check that the server at PREFECT_API_URL answers; without an address Prefect starts one for each flow.

    Raises:
        InputError: it does not, or there is no address and ``needed_for`` names what takes one.
    """
    url = PREFECT_API_URL.value()
    if not url:
        if needed_for:
            raise InputError(f"PREFECT_API_URL: not set, and {needed_for} needs a server", REMEDY)
        return
    waits = {"timeout": (SECONDS / 4, SECONDS, SECONDS, SECONDS)}  # the first is for connecting, which Prefect tries four times
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(httpx_settings=waits, sync_client=True) as client:
        if client.api_healthcheck():
            raise InputError(f"PREFECT_API_URL = {redact(url)}: no Prefect server answers there", REMEDY)


def start_temporary_server() -> None:
    """Let Prefect start its temporary server now, where no server is named, so that Ctrl-C does not reach it.

    It inherits the blocked signal. It ends with this process, which can report to it how the flow ended.
    """
    os.environ[OWNER] = process_key(psutil.Process())
    if not PREFECT_API_URL.value():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            get_client(sync_client=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def this_run() -> FlowRun:
    """The flow run that this code is called in."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return context.flow_run


def claim(run: FlowRun, tags: Iterable[str]) -> None:
    """Tag a flow run with ``tags`` and with this process, in place of that of an earlier attempt, which Prefect's Retry left.

    What this process tracks in MLflow then names the flow run.
    """
    own = {*(tag for tag in run.tags if not tag.startswith(TAG)), TAG + process_key(psutil.Process()), *tags}
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags=sorted(own))
    named = {"prefect.flow_run": run.name, "prefect.flow_run_id": str(run.id), "prefect.url": page(run.id)}
    os.environ[FLOW_RUN] = json.dumps({tag: value for tag, value in named.items() if value})


def run_of(state: State[Any]) -> FlowRun:
    """The flow run that ended in ``state``."""
    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def page(run_id: UUID) -> str | None:
    """The page of a flow run on the Prefect server, if there is one; without user and password."""
    api = bare(os.environ.get("PREFECT_API_URL", ""))
    return f"{api.removesuffix('/api')}/runs/flow-run/{run_id}" if api.endswith("/api") else None


def on_end(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Prefect's hook for flow runs that end badly."""
    where = f" ({url})" if (url := page(flow_run.id)) else ""
    notify(f"{flow.name}: flow run {flow_run.name} {str(state.name).lower()}: {state.message or 'no message'}{where}")


def settle_abandoned(on_line: Callable[[str], object]) -> None:
    """Set flow runs whose process is gone to CRASHED and end the servers that they started; ``on_line`` is told of each."""
    for pid in end_orphaned_servers():
        on_line(f"ended the server {pid}, left behind by a flow that was killed")
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=OURS, flow_run_filter=unfinished):
            if why := why_abandoned(run.tags):
                with contextlib.suppress(ObjectNotFound):  # another process or a user deleted it
                    _crash(client, run, why)
                on_line(f"flow run {run.name} is set to CRASHED: {why}")
                notify(f"flow run {run.name} crashed: {why}")


def why_abandoned(tags: list[str]) -> str | None:
    """Why no process works on an unfinished flow run any more; None if one may."""
    for key in (tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)):
        if is_gone(key):
            host, pid, _ = key.rsplit("/", 2)
            return f"its process {pid} on {host} ended without reporting it (killed, out of memory, power loss)"
    return None


def _crash(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    of_run = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
    for task_run in client.read_task_runs(flow_run_filter=of_run):
        if task_run.state and not task_run.state.is_final():
            client.set_task_run_state(task_run.id, Crashed(message=why), force=True)
    client.set_flow_run_state(run.id, Crashed(message=why), force=True)


def end_orphaned_servers() -> list[int]:
    """End the temporary servers whose flow was killed; returns their PIDs. A server that a user started names no flow."""
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            owner = process.environ().get(OWNER)
            if owner and is_gone(owner) and any("prefect.server" in word for word in process.cmdline()):
                orphans.append(process)
    end_processes(orphans, grace=5)
    return [server.pid for server in orphans]


def old_flow_runs(days: float) -> list[UUID]:
    """Ids of the flow runs that ended more than ``days`` days ago.

    Raises:
        InputError: the server at PREFECT_API_URL does not answer.
    """
    check_server()
    ended = FlowRunFilter.model_validate({"end_time": {"before_": datetime.now(UTC) - timedelta(days=days)}})
    found: list[UUID] = []
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_filter=OURS, flow_run_filter=ended, offset=len(found)):
            found += [run.id for run in runs]
    return found


def delete_flow_runs(ids: list[UUID]) -> None:
    """Delete flow runs; Prefect's server deletes their logs within a day."""
    with get_client(sync_client=True) as client:
        for run_id in ids:
            with contextlib.suppress(ObjectNotFound):
                client.delete_flow_run(run_id)
