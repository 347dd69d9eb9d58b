"""The Prefect server: whether it answers, which flow runs in it are old or abandoned."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from gee_core.errors import InputError
from pipelines.orchestration import environment  # noqa: F401 - before prefect is imported

# isort: split
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, PREFECT_HOME, temporary_settings
from prefect.states import Crashed

from pipelines.orchestration.crashed_flows import OWNER, TAG, end_orphaned_servers, why_abandoned
from pipelines.orchestration.notify import notify, page
from pipelines.tracking.pipeline_run import FLOW_RUN
from pipelines.tracking.redact import redact

PIPELINE, STUDY = "gee", "gee-study"
"""Names of the flows, by which Prefect finds their runs."""

OURS = FlowFilter.model_validate({"name": {"any_": [PIPELINE, STUDY]}})

SECONDS = 20
"""How long the server may take to answer whether it is there."""

REMEDY = "start `prefect server start` and set PREFECT_API_URL, for example http://127.0.0.1:4200/api"


def check_server(needed_for: str | None = None) -> None:
    """Check that the server at PREFECT_API_URL answers; without an address each flow starts its own.

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


def claim(run: FlowRun, tags: Iterable[str]) -> None:
    """Tag a flow run with ``tags`` and with this process, in place of that of an earlier attempt, which Prefect's Retry left.

    What this process tracks in MLflow then names the flow run.
    """
    own = {*(tag for tag in run.tags if not tag.startswith(TAG)), TAG + os.environ[OWNER], *tags}
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags=sorted(own))
    named = {"prefect.flow_run": run.name, "prefect.flow_run_id": str(run.id), "prefect.url": page(run.id)}
    os.environ[FLOW_RUN] = json.dumps({tag: value for tag, value in named.items() if value})


def flow_run(run_id: UUID) -> FlowRun:
    """The flow run with this id."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)


def settle_abandoned(on_line: Callable[[str], object]) -> None:
    """Set flow runs whose process is gone to CRASHED and end the servers that they started; ``on_line`` is told of each."""
    for pid in end_orphaned_servers(PREFECT_HOME.value()):
        on_line(f"ended the server {pid}, left behind by a flow that was killed")
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=OURS, flow_run_filter=unfinished):
            if why := why_abandoned(run.tags, run.state.timestamp, datetime.now(UTC)):
                with contextlib.suppress(ObjectNotFound):  # another process or a user deleted it
                    _crash(client, run, why)
                on_line(f"flow run {run.name} is set to CRASHED: {why}")
                notify(f"flow run {run.name} crashed: {why}")


def _crash(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    of_run = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
    for task_run in client.read_task_runs(flow_run_filter=of_run):
        if task_run.state and not task_run.state.is_final():
            client.set_task_run_state(task_run.id, Crashed(message=why), force=True)
    client.set_flow_run_state(run.id, Crashed(message=why), force=True)


def old_flow_runs(days: float) -> list[UUID]:
    """Ids of the flow runs that ended more than ``days`` days ago.

    Raises:
        InputError: the server at PREFECT_API_URL does not answer.
    """
    check_server()
    ended = FlowRunFilter.model_validate({"end_time": {"before_": datetime.now(UTC) - timedelta(days=days)}})
    found = []
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
