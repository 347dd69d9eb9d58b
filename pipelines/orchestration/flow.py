"""The pipeline as a Prefect flow: one task per DVC stage, which runs `dvc repro` of that stage alone.

DVC knows the graph of stages and which of them are out of date. Prefect schedules the tasks, runs independent ones in parallel
and shows what happened. With overrides or a preset the flow is one task, a DVC experiment in a temporary copy of the project.
"""

import os
from pathlib import Path
from typing import Any

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.orchestration import environment  # noqa: F401 - before prefect is imported

# isort: split
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.futures import as_completed
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from gee_core.storage.json_object import read_json_object
from pipelines.orchestration.artifacts import harmless, publish, results_markdown
from pipelines.orchestration.damaged_dvc_files import set_aside_damaged_dvc_files
from pipelines.orchestration.dvc_tasks import ran, run_experiment, run_stage, stage_dependencies, stage_names
from pipelines.orchestration.ending import Outcome
from pipelines.orchestration.experiment import EXPERIMENTS, experiment_name, read_results
from pipelines.orchestration.flow_lock import flow_lock, say
from pipelines.orchestration.notify import on_end, page
from pipelines.orchestration.request import Request, checked, choice, with_needed
from pipelines.orchestration.server import PIPELINE, check_server, claim, flow_run, settle_abandoned
from pipelines.project.paths import PAGE, SUMMARY, find_project
from pipelines.project.presets import preset_names
from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm, kill_groups
from pipelines.tracking.pipeline_run import execution_key
from pipelines.tracking.tracker import open_tracker

Stage = choice(stage_names(find_project()))
Preset = choice(preset_names())
"""The names that Prefect's form offers; the flow itself checks them against DVC's graph and the files in presets/."""


NOT_RUN = "not run"
"""Outcome of a stage that needs one which failed, or that an interruption came before."""


class FlowError(Exception):
    """A stage failed. The message names it and ends with the last lines of its output."""


@flow(name=PIPELINE, retries=0, on_failure=[on_end], on_crashed=[on_end])
def pipeline_flow(
    overrides: dict[str, Any] = {},  # noqa: B006 - Prefect copies it
    stages: list[Stage] = [],  # noqa: B006
    force: bool = False,
    preset: Preset | None = None,
) -> State:
    """Bring the pipeline up to date, or run an experiment.

    Returns what became of each stage. Waits for another run in this project.

    Args:
        overrides: New values by section.key of params.yaml, such as {"evolve.n_generations": 1}. Overrides and presets run as
            a DVC experiment: params.yaml and the results in the project stay as they are.
        stages: Bring these stages up to date, and what they need. Empty: all.
        force: Run unchanged stages too.
        preset: Start from this preset instead of params.yaml, as a DVC experiment.
    """
    die_with_parent()
    project = find_project()
    os.chdir(project)
    request = Request(overrides, stages, force, preset)
    try:
        params, _ = checked(request, project)
    except InputError as error:
        return Failed(message=str(error))
    run = get_run_context().flow_run
    kind = ["experiment"] if request.is_experiment else []
    try:
        claim(run, [params.prepare.data_name, params.network.name, *kind])
        with flow_lock(project, get_run_logger().info):
            settle_abandoned(get_run_logger().info)
            return _run(project, request, experiment_name(run))
    except KeyboardInterrupt:  # a user's wish, which Prefect would call a crash; it handles SIGTERM itself
        return Cancelled(message="stopped by Ctrl-C")


def _run(project: Path, request: Request, name: str) -> State:
    try:
        params, changes = checked(request, project)
        set_aside_damaged_dvc_files()
        dependencies = with_needed(stage_dependencies(project), request.stages)
    except InputError as error:
        return Failed(message=str(error))
    ran.clear()
    results: dict[str, str] = {}
    failure, status, address = "", "KILLED", None
    try:
        if request.is_experiment:
            failure = _run_experiment(name, changes, request, results)
        else:
            failure = _run_stages(dependencies, request.force, results)
        status = "FAILED" if failure else "FINISHED"
    except BaseException:  # SIGTERM and Ctrl-C reach only the main thread, so the stages must be stopped here
        results |= {stage: "killed" for stage in ran if results.get(stage, NOT_RUN) == NOT_RUN}
        kill_groups()
        raise
    finally:
        if ran or failure:  # a run in which nothing changed is no row in MLflow
            address = _track(params, results, status, request.is_experiment)
    if failure:
        publish(results_markdown(results, None), None, address, failure)
        return Failed(message=failure.partition("\n")[0], data=failure)
    _publish(project, name if request.is_experiment else None, results, address)
    done = [stage for stage, what in results.items() if what == "ran"]
    return Completed(message=f"{', '.join(done)} ran" if done else "everything was up to date", data=results)


def _run_experiment(name: str, changes: list[str], request: Request, results: dict[str, str]) -> str:
    """The message of an experiment that failed; ``results`` gets the outcome of its stages, also where this is interrupted."""
    future = run_experiment.submit(name, changes, request.stages, request.force, execution_key())
    try:
        future.wait()
    except BaseException:
        results |= dict.fromkeys(ran[:-1], "ran")  # its stages run one after the other
        raise
    state = future.state
    if state.is_completed():
        results |= state.result()
        return ""
    results["experiment"] = "failed"
    return _message(state, f"experiment {name} failed")


def _run_stages(dependencies: dict[str, list[str]], force: bool, results: dict[str, str]) -> str:
    """The messages of failed stages; ``results`` gets the outcome of each as soon as it ends.

    A failed stage does not stop independent stages.
    """
    results |= dict.fromkeys(dependencies, NOT_RUN)
    futures, execution, failures = {}, execution_key(), {}
    for stage, needed in dependencies.items():
        futures[stage] = run_stage.submit(stage, execution, force, wait_for=[futures[name] for name in needed])
    stages = {future: stage for stage, future in futures.items()}
    for future in as_completed(list(stages)):
        future.wait()
        state, stage = future.state, stages[future]
        if state.is_completed():
            results[stage] = state.result()
        elif not state.is_pending():
            results[stage] = "failed"
            failures[stage] = _message(state, f"stage {stage} failed")
    return "\n".join(failures[stage] for stage in dependencies if stage in failures)


def _message(state: State, otherwise: str) -> str:
    return f"{state.message or otherwise}\n{state.result(raise_on_failure=False)}"


def _track(params: Params, results: dict[str, str], status: str, is_experiment: bool) -> str | None:
    """End the pipeline's run in MLflow; returns the address of its page."""
    opening = {"files": []} if is_experiment else {}  # the project's params.yaml and dvc.lock are not the experiment's
    tracker = open_tracker(None, params, **opening)
    tracker.tags({f"stage.{stage}": result for stage, result in results.items()})
    tracker.close(status)
    return tracker.address()


def _publish(project: Path, experiment: str | None, results: dict[str, str], address: str | None) -> None:
    with harmless():
        if experiment:
            summary, page = read_results(project, experiment)
            about = f"DVC experiment {experiment}: `dvc exp show` compares it, `dvc exp apply {experiment}` takes it over"
        else:
            summary = read_json_object(project / SUMMARY) if (project / SUMMARY).is_file() else None
            page, about = project / PAGE, "The results in the project folder"
        publish(results_markdown(results, summary), page if page and page.is_file() else None, address, about)


def run_flow(request: Request | None = None) -> Outcome:
    """Run the flow now.

    Raises:
        InputError: params.yaml, dvc.yaml or the request is invalid, or the server at PREFECT_API_URL does not answer.
        FlowError: a stage failed.
        KeyboardInterrupt: Ctrl-C; the flow run is then CANCELLED.
    """
    exit_on_sigterm()
    request, project = request or Request(), find_project()
    checked(request, project)
    with_needed(stage_dependencies(project), request.stages)
    check_server()
    if not PREFECT_API_URL.value():
        from pipelines.orchestration.temporary_server import outlive_signals  # seconds

        outlive_signals()
    with flow_lock(project, say):
        state = pipeline_flow(**request._asdict(), return_state=True)
    if state.is_cancelled():
        raise KeyboardInterrupt
    if not state.is_completed():
        raise FlowError(state.result(raise_on_failure=False) or state.message)
    run = flow_run(state.state_details.flow_run_id)
    experiment = EXPERIMENTS / experiment_name(run) if request.is_experiment else None
    return Outcome(state.result(), run.id, page(run.id), experiment)
