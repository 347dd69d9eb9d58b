"""The pipeline as a Prefect flow: one task per DVC stage, which runs `dvc repro` of that stage alone.

DVC knows the graph of stages and which of them are out of date. Prefect schedules the tasks, runs independent ones in parallel
and shows what happened. The only file that imports prefect.
"""

import contextlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil

from gee_core.errors import InputError
from pipelines.check import check_inputs
from pipelines.orchestration.crashed_flows import OWNER, TAG, end_orphaned_servers, why_abandoned
from pipelines.orchestration.damaged_dvc_lock import set_aside_damaged_lock
from pipelines.orchestration.flow_lock import flow_lock
from pipelines.project.params import load_params
from pipelines.project.paths import PARAMS, find_project
from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm, kill_groups, process_key, run_in_group
from pipelines.tracking.pipeline_run import EXECUTION, execution_key, versions
from pipelines.tracking.tracker import open_tracker

DEFAULTS = {
    "PREFECT_HOME": str(find_project() / ".prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "DO_NOT_TRACK": "true",
}
"""The settings of prefect.toml, which Prefect reads only if it is started in the project folder."""
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
os.environ[OWNER] = process_key(psutil.Process())

from prefect import flow, get_run_logger, task  # noqa: E402 - it reads the environment when imported
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import SyncPrefectClient, get_client  # noqa: E402
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter  # noqa: E402
from prefect.client.schemas.objects import FlowRun  # noqa: E402
from prefect.client.schemas.schedules import CronSchedule  # noqa: E402
from prefect.context import get_run_context  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.settings import PREFECT_API_URL, PREFECT_HOME  # noqa: E402
from prefect.states import Crashed, Failed, State  # noqa: E402

# Prefect logs a failed state in full, escaped, between the stage's own output and "Finished in state Failed(…)".
logging.getLogger("prefect.task_runs").addFilter(lambda record: "Task run failed with state" not in record.getMessage())

NAME = "gee"
"""Name of the flow, by which Prefect finds its runs."""

BY_NAME = FlowFilter.model_validate({"name": {"any_": [NAME]}})

BUSY = "is busy, it is being blocked by"
"""DVC's message when another `dvc` uses the files of a stage, for which `--wait-for-lock` does not wait."""

REMEDY = "start `prefect server start` and set PREFECT_API_URL, for example http://127.0.0.1:4200/api"


class FlowError(Exception):
    """A stage failed. The message names it and ends with the last lines of its output."""


def stage_dependencies(project: Path) -> dict[str, list[str]]:
    """The stages of dvc.yaml with the stages that they depend on, dependencies first.

    Raises:
        InputError: DVC cannot read the project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from networkx import topological_sort

    try:
        with Repo(str(project)) as repo:
            graph = repo.index.graph
            order = reversed(list(topological_sort(graph)))  # DVC's edges point from a stage to what it needs
            return {s.addressing: sorted(d.addressing for d in graph.successors(s)) for s in order if s.cmd}
    except DvcException as error:
        raise InputError(f"{project}: {' '.join(str(error).split())}", "`dvc repro --dry` shows what is wrong") from None


def outcome(output: str) -> str:
    """Parse the output of `dvc repro`: ``ran``, ``cached`` (result taken from the cache) or ``skipped`` (unchanged)."""
    if "Running stage '" in output:
        return "ran"
    return "cached" if "is cached - skipping run" in output else "skipped"


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def run_stage(stage: str, execution: str) -> str | State:
    """Run `dvc repro` of one stage; returns its `outcome`, or a failed state with the last lines of its output."""
    logger = get_run_logger()
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    env = {"PYTHONUNBUFFERED": "1", EXECUTION: execution}
    while True:
        result = run_in_group(command, cwd=find_project(), env=env, on_line=logger.info)
        if result.returncode == 0:
            return outcome(result.stdout)
        if BUSY not in result.stdout:
            lines = deque((line for line in result.stdout.splitlines() if line.strip()), maxlen=15)
            return Failed(message=f"stage {stage} failed (exit code {result.returncode})", data="\n".join(lines))
        logger.info("another dvc is using the files of %s; waiting for it", stage)
        time.sleep(5)


@flow(name=NAME, retries=0)
def pipeline_flow() -> dict[str, str] | State:
    """Bring the pipeline up to date; returns the outcome of each stage. Waits for another flow run in this project."""
    exit_on_sigterm()
    die_with_parent()
    project = find_project()
    os.chdir(project)
    run = get_run_context().flow_run
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags=[*run.tags, TAG + os.environ[OWNER]])
    with flow_lock(project, get_run_logger().info):
        settle_abandoned(get_run_logger().info)
        return _bring_up_to_date(project)


def settle_abandoned(on_line: Callable[[str], object]) -> None:
    """Set flow runs whose process is gone to CRASHED and end the servers that they started; ``on_line`` is told of each."""
    for pid in end_orphaned_servers(PREFECT_HOME.value()):
        on_line(f"ended the server {pid}, left behind by a flow that was killed")
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=BY_NAME, flow_run_filter=unfinished):
            if why := why_abandoned(run.tags, run.state.timestamp, datetime.now(UTC)):
                with contextlib.suppress(ObjectNotFound):  # another process or a user deleted it
                    _crash(client, run, why)
                on_line(f"flow run {run.name} is set to CRASHED: {why}")


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
    _check_server()
    ended = FlowRunFilter.model_validate({"end_time": {"before_": datetime.now(UTC) - timedelta(days=days)}})
    found = []
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_filter=BY_NAME, flow_run_filter=ended, offset=len(found)):
            found += [run.id for run in runs]
    return found


def delete_flow_runs(ids: list[UUID]) -> None:
    """Delete flow runs; Prefect's server deletes their logs within a day."""
    with get_client(sync_client=True) as client:
        for run_id in ids:
            with contextlib.suppress(ObjectNotFound):
                client.delete_flow_run(run_id)


def _bring_up_to_date(project: Path) -> dict[str, str] | State:
    try:
        params = load_params()
        set_aside_damaged_lock()
        check_inputs(params)
        tracker = open_tracker(None, params)
        dependencies = stage_dependencies(project)
    except InputError as error:
        return Failed(message=str(error))
    status = "KILLED"
    try:
        results, failure = _run_stages(dependencies, execution_key())
        status = "FAILED" if failure else "FINISHED"
        tracker.tags({f"stage.{stage}": result for stage, result in results.items()})
        for path in versions(project):
            tracker.artifact(path)
    except BaseException:  # SIGTERM and Ctrl-C reach only the main thread, so the stages must be stopped here
        kill_groups()
        raise
    finally:
        tracker.close(status)
    return Failed(message=failure.partition(":")[0], data=failure) if failure else results


def _run_stages(dependencies: dict[str, list[str]], execution: str) -> tuple[dict[str, str], str]:
    """The outcome of each stage, and the messages of failed ones. A failed stage does not stop independent stages."""
    futures = {}
    for stage, needed in dependencies.items():
        futures[stage] = run_stage.submit(stage, execution, wait_for=[futures[name] for name in needed])
    results, failures = {}, []
    for stage, future in futures.items():
        future.wait()
        state = future.state
        if state.is_completed():
            results[stage] = state.result()
        elif state.is_pending():
            results[stage] = "not run"
        else:
            results[stage] = "failed"
            output = state.result(raise_on_failure=False)
            failures.append(f"{state.message or f'stage {stage} failed'}:\n{output}")
    return results, "\n".join(failures)


def run_flow() -> dict[str, str]:
    """Run the flow now; returns the outcome of each stage: ``ran``, ``cached`` or ``skipped``.

    Raises:
        InputError: params.yaml or dvc.yaml is invalid, or the server at PREFECT_API_URL does not answer.
        FlowError: a stage failed.
    """
    exit_on_sigterm()
    project = find_project()
    params = load_params(project / PARAMS)
    stage_dependencies(project)
    check_inputs(params)
    _check_server()
    with flow_lock(project, lambda line: print(f"gee: {line}", file=sys.stderr, flush=True)):
        state = pipeline_flow(return_state=True)
    if not state.is_completed():
        raise FlowError(state.result(raise_on_failure=False) or state.message)
    return state.result()


def _check_server() -> None:
    if url := PREFECT_API_URL.value():
        with get_client(sync_client=True) as client:
            if client.api_healthcheck():
                raise InputError(f"PREFECT_API_URL = {url}: no Prefect server answers there", REMEDY)


def serve_flow(cron: str, name: str = "nightly") -> None:
    """Run the flow on a schedule until stopped, one run at a time; needs a Prefect server.

    Raises:
        InputError: ``cron`` is not a schedule, or no server answers.
    """
    exit_on_sigterm()
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise InputError(f'--cron "{cron}": not a cron schedule', 'write for example "0 2 * * *"') from None
    if not PREFECT_API_URL.value():
        raise InputError("PREFECT_API_URL: not set, and a schedule needs a server", REMEDY)
    _check_server()
    os.chdir(find_project())
    settle_abandoned(lambda line: print(f"gee: {line}", file=sys.stderr, flush=True))
    pipeline_flow.serve(name=name, cron=cron, limit=1)
