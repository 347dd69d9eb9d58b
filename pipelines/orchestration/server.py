"""The Prefect server: whether it answers, which flow runs in it are abandoned, and who is told of flow runs that failed."""

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import psutil
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from gee_core.errors import InputError
from pipelines.orchestration.ending import page
from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.runtime.redact import redact
from pipelines.runtime.settings import Settings
from pipelines.tracking.pipeline_run import FLOW_RUN

log = logging.getLogger(__name__)

PIPELINE, STUDY = "gee", "gee-study"
"""Names of the flows, by which Prefect finds their runs."""

TAG = "gee.process="
"""Prefix of the tag with the process of a flow run."""

SECONDS = 20
"""How long the server may take to answer, and a webhook or command of GEE_NOTIFY."""

REMEDY = "start `prefect server start` and set PREFECT_API_URL, for example http://127.0.0.1:4200/api"


def connect(needed_for: str | None = None) -> None:
    """Check that the server at PREFECT_API_URL answers. Without an address, let Prefect start its temporary server now.

    Raises:
        InputError: the server does not answer, or there is no address and ``needed_for`` names what takes a lasting server.
    """
    url = PREFECT_API_URL.value()
    if url:
        waits = {"timeout": (SECONDS / 4, SECONDS, SECONDS, SECONDS)}  # the first: to connect, which Prefect tries four times
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(httpx_settings=waits, sync_client=True) as client:
            if client.api_healthcheck():
                raise InputError(f"PREFECT_API_URL = {redact(url)}: no Prefect server answers there", REMEDY)
    elif needed_for:
        raise InputError(f"PREFECT_API_URL: not set, and {needed_for} needs a server", REMEDY)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the server inherits it, and survives a Ctrl-C until the
        try:  # flow has reported its end
            get_client(sync_client=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def claim(tags: Iterable[str]) -> FlowRun:
    """Tag the flow run that this code is called in with ``tags`` and this process, and return it.

    The process of an earlier attempt, which Prefect's Retry left, goes. What this process tracks in MLflow names the flow run.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    run = context.flow_run
    own = {*(tag for tag in run.tags if not tag.startswith(TAG)), TAG + process_key(psutil.Process()), *tags}
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags=sorted(own))
    named = {"prefect.flow_run": run.name, "prefect.flow_run_id": str(run.id), "prefect.url": page(run.id)}
    os.environ[FLOW_RUN] = json.dumps({tag: value for tag, value in named.items() if value})
    return run


def settle_abandoned(on_line: Callable[[str], object]) -> None:
    """Set flow runs whose process is gone to CRASHED, with their tasks; ``on_line`` is told of each."""
    ours = FlowFilter.model_validate({"name": {"any_": [PIPELINE, STUDY]}})
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=ours, flow_run_filter=unfinished):
            key = next((tag.removeprefix(TAG) for tag in run.tags if tag.startswith(TAG)), "")
            if not key or not is_gone(key):
                continue
            host, pid, _ = key.rsplit("/", 2)
            why = f"its process {pid} on {host} ended without reporting it (killed, out of memory, power loss)"
            with contextlib.suppress(ObjectNotFound):  # a user deleted it
                of_run = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
                for task_run in client.read_task_runs(flow_run_filter=of_run):
                    if task_run.state and not task_run.state.is_final():
                        client.set_task_run_state(task_run.id, Crashed(message=why), force=True)
                client.set_flow_run_state(run.id, Crashed(message=why), force=True)
            on_line(f"flow run {run.name} is set to CRASHED: {why}")
            notify(f"flow run {run.name} crashed: {why}")


def on_end(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Prefect's hook for flow runs that end badly."""
    where = f" ({url})" if (url := page(flow_run.id)) else ""
    notify(f"{flow.name}: flow run {flow_run.name} {str(state.name).lower()}: {state.message or 'no message'}{where}")


def notify(message: str) -> None:
    """Send ``message``, without secrets, to the webhook or command in GEE_NOTIFY, if it is set. A failure is only logged.

    A webhook gets a POST of ``{"text": message}``, as Slack, Mattermost and Discord (with `/slack`) take it. A command gets the
    message as its last argument.
    """
    target, message = Settings.read().notify, redact(message)
    if not target:
        return
    try:
        if target.startswith(("http://", "https://")):
            body, kind = json.dumps({"text": message}).encode(), {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(target, body, kind), timeout=SECONDS).close()
        else:
            subprocess.run([*shlex.split(target), message], check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    except Exception as error:  # its text may hold the address, which is a secret
        log.warning("GEE_NOTIFY: no notification was sent (%s)", type(error).__name__)
