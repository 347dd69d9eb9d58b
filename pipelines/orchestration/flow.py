"""The pipeline as a Prefect flow: one task per DVC stage, which runs `dvc repro` of that stage alone.

DVC decides what to rerun. Prefect starts the tasks, runs independent stages in parallel and shows what happened. With overrides
or a preset the flow is a DVC experiment in a temporary copy of the project, whose stages run one after the other.
"""

import os
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Cancelled, Completed, Failed

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.orchestration.ending import Outcome
from pipelines.orchestration.flow_lock import flow_lock, say
from pipelines.orchestration.form import Overrides, Preset, by_key
from pipelines.orchestration.request import Request, checked, experiment_name, experiment_summary, stages_to_run
from pipelines.orchestration.server import (
    PIPELINE,
    check_server,
    claim,
    on_end,
    page,
    settle_abandoned,
    start_temporary_server,
)
from pipelines.orchestration.tasks import harmless, publish, results_markdown, run_experiment, run_stage
from pipelines.project.paths import PAGE, SUMMARY, find_project
from pipelines.reporting.summary import read_summary
from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm, kill_groups
from pipelines.tracking.entries import End
from pipelines.tracking.pipeline_run import execution_key
from pipelines.tracking.tracker import open_tracker


class FlowError(Exception):
    """A stage failed. The message names it and ends with the last lines of its output."""


@flow(name=PIPELINE, retries=0, on_failure=[on_end], on_crashed=[on_end])
def pipeline_flow(
    preset: Preset = None,  # first, since the form has all settings behind it
    overrides: Overrides = {},  # noqa: B006 - Prefect copies it
    stages: list[str] = [],  # noqa: B006
    force: bool = False,
) -> State[Any]:
    """Bring the pipeline up to date, or run an experiment.

    Returns what became of each stage. Waits for another run in this project.

    Args:
        preset: Start from this preset instead of params.yaml, as a DVC experiment.
        overrides: New values of params.yaml, such as {"evolve": {"n_generations": 1}} or {"evolve.n_generations": 1}. Overrides
            and presets run as a DVC experiment: params.yaml and the results in the project stay as they are.
        stages: Bring these stages up to date, and what they need. Empty: all.
        force: Run unchanged stages too.
    """
    die_with_parent()
    project = find_project()
    os.chdir(project)
    request = Request(by_key(overrides), stages, force, preset)
    try:
        params, _ = checked(request, project)
        run = claim([params.prepare.data_name, params.network.name, *(["experiment"] if request.is_experiment else [])])
        with flow_lock(project, get_run_logger().info):
            settle_abandoned(get_run_logger().info)
            return _run(project, request, run)
    except InputError as error:
        return Failed(message=str(error))
    except KeyboardInterrupt:  # a user's wish, which Prefect would call a crash; it handles SIGTERM itself
        return Cancelled(message="stopped by Ctrl-C")


def _run(project: Path, request: Request, run: FlowRun) -> State[Any]:
    params, changes = checked(request, project)  # again, since they may have changed while this one waited
    dependencies = stages_to_run(project, request.stages)
    name, execution, address = experiment_name(run), execution_key(), None
    status: End = "KILLED"
    futures: dict[str, PrefectFuture[Any]] = {}
    results: dict[str, str] = {}
    failures: dict[str, str] = {}
    try:
        results |= dict.fromkeys(dependencies, "not run")
        if request.is_experiment:
            futures = run_experiment(request, name, changes, execution)
        else:
            for stage, needed in dependencies.items():
                before = [futures[other] for other in needed]
                futures[stage] = run_stage.submit(stage, execution, request.force, wait_for=before, return_state=False)
        _follow(futures, results, failures)
        status = "FAILED" if failures else "FINISHED"
    except BaseException:  # SIGTERM and Ctrl-C reach only the main thread, so the stages must be stopped here
        kill_groups()
        raise
    finally:
        if status != "FINISHED" or "ran" in results.values():  # a run in which nothing changed is no row in MLflow
            address = _track(params, results, status, request.is_experiment)
    if failures:
        failure = "\n".join(failures[stage] for stage in futures if stage in failures)
        publish(results_markdown(results, None), address, failure)
        return Failed(message=failure.partition("\n")[0], data=failure)
    with harmless():
        if request.is_experiment:
            about = f"DVC experiment {name}: `dvc exp show` compares it, `dvc exp apply {name}` takes it over"
            summary = experiment_summary(project, name)
        else:
            about = f"The results in the project folder; the report is `{project / PAGE}`, on the machine that ran"
            summary = read_summary(project / SUMMARY) if (project / SUMMARY).is_file() else None
        publish(results_markdown(results, summary), address, about, summary)
    done = [stage for stage, what in results.items() if what == "ran"]
    outcome = Outcome(results, run.id, page(run.id), name if request.is_experiment else None)
    return Completed(message=f"{', '.join(done)} ran" if done else "everything was up to date", data=outcome)


def _follow(futures: dict[str, PrefectFuture[Any]], results: dict[str, str], failures: dict[str, str]) -> None:
    """Write what becomes of each stage to ``results`` as soon as it ends, and the messages of failed ones to ``failures``.

    A failed stage does not stop independent stages.
    """
    names = {future: name for name, future in futures.items()}
    for future in as_completed(list(names)):
        future.wait()
        state, name = future.state, names[future]
        if state.is_completed():
            results[name] = state.result()
        elif not state.is_pending():
            results[name] = "failed"
            failures[name] = f"{state.message or f'{name} failed'}\n{state.result(raise_on_failure=False)}"


def _track(params: Params, results: dict[str, str], status: End, is_experiment: bool) -> str | None:
    """End the pipeline's run in MLflow; returns the address of its page."""
    files: list[Path] | None = [] if is_experiment else None  # the project's params.yaml and dvc.lock are not the experiment's
    tracker = open_tracker(None, params, files=files)
    tracker.tags({f"stage.{stage}": result for stage, result in results.items()})
    tracker.close(status)
    return tracker.address


def run_flow(request: Request) -> Outcome:
    """Run the flow now.

    Raises:
        InputError: params.yaml, dvc.yaml or the request is invalid, or the server at PREFECT_API_URL does not answer.
        FlowError: a stage failed.
        KeyboardInterrupt: Ctrl-C; the flow run is then CANCELLED.
    """
    exit_on_sigterm()
    project = find_project()
    checked(request, project)
    stages_to_run(project, request.stages)
    check_server()
    start_temporary_server()
    with flow_lock(project, say):
        state: State[Any] = pipeline_flow(**request._asdict(), return_state=True)
    if state.is_cancelled():
        raise KeyboardInterrupt
    if not state.is_completed():
        raise FlowError(state.result(raise_on_failure=False) or state.message)
    outcome: Outcome = state.result()
    return outcome
