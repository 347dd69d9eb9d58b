"""The pipeline and studies as Prefect flows, each of which runs one process and shows what it prints.

DVC decides what to rerun. With overrides or a preset the pipeline is a DVC experiment in a temporary copy of the project.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect import artifacts, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Failed
from pydantic import WithJsonSchema

from gee_core.config import Params
from gee_core.errors import InputError, in_short
from pipelines.orchestration.ending import results_markdown
from pipelines.orchestration.flow_lock import flow_lock
from pipelines.orchestration.follow import failed, follow_stages, harmless, lines_of, show, why
from pipelines.orchestration.request import Request, checked, experiment_name, last_summary, stage_names
from pipelines.orchestration.server import PIPELINE, STUDY, claim, on_end, settle_abandoned
from pipelines.project.params import load_params
from pipelines.project.paths import PAGE, find_project, python_first
from pipelines.project.presets import preset_names
from pipelines.reporting.summary import track_result
from pipelines.runtime.process_tree import die_with_parent, followed
from pipelines.runtime.run_files import End
from pipelines.studies.definition import load_study
from pipelines.studies.plan import Request as StudyRequest
from pipelines.studies.plan import draft_cells
from pipelines.studies.reports import OUT
from pipelines.studies.study import TRACKED
from pipelines.tracking.pipeline_run import EXECUTION, execution_key
from pipelines.tracking.tracker import open_execution

_SCHEMA = Params.model_json_schema()


def _inlined(schema: Any) -> Any:
    """``schema`` with the models that it refers to inside, in which no field is required, and each is called by its key.

    It has no defaults and no switches, which the form sends for fields that nobody touched.
    """
    if isinstance(schema, list):
        return list(map(_inlined, schema))
    if not isinstance(schema, dict):
        return schema
    schema = _SCHEMA["$defs"].get(schema.get("$ref", "").rpartition("/")[2], {}) | schema
    if schema.get("type") == "boolean":
        schema = {"description": schema.get("description", ""), "enum": [True, False]}
    left_out = ["$ref", "required", "default"] + ["title"] * isinstance(schema.get("title"), str)  # not report.title
    return {key: _inlined(value) for key, value in schema.items() if key not in left_out}


def _settings() -> dict[str, Any]:
    """The schema of each section. The descriptions begin with the values in params.yaml, if that is valid."""
    sections = _inlined(_SCHEMA["properties"])
    with contextlib.suppress(InputError, OSError):
        for section, values in load_params().model_dump(mode="json").items():
            for key, field in sections[section]["properties"].items():
                field["description"] = f"`{in_short(json.dumps(values[key]))}` in params.yaml. {field['description']}"
    return sections


Overrides = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "properties": _settings()})]
"""New values of params.yaml, by section, or by section.key."""

Preset = Annotated[str | None, WithJsonSchema({"enum": [*preset_names(), None]})]
"""A preset of this project, or None."""


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
            The form shows the values of params.yaml when `gee flow serve` or `prefect deploy` made it.
        stages: Bring these stages up to date, and what they need. Empty: all.
        force: Run unchanged stages too.
    """
    request = Request(by_key(overrides), stages, force, preset)

    def tags() -> list[str]:
        params, _ = checked(request, Path())
        return [params.prepare.data_name, params.network.name, *(["experiment"] if request.is_experiment else [])]

    return _alone(tags, lambda run: run_pipeline(request, run))


@flow(name=STUDY, retries=0, on_failure=[on_end], on_crashed=[on_end])
def study_flow(
    study: str,
    preset: Preset = None,
    seeds: int | None = None,
    overrides: Overrides = {},  # noqa: B006 - Prefect copies it
    force: bool = False,
) -> State[Any]:
    """Run the cells of a study that have no result; returns the folder of its tables. Waits for another run here.

    Args:
        study: A file in studies/, without its ending.
        preset: Start from this preset instead of the study's.
        seeds: Number of seeds per cell. None: the study's.
        overrides: New values of params.yaml in every cell, such as {"train": {"epochs": 5}}.
        force: Run all cells, also those that have a result.
    """
    request = StudyRequest(study, preset, seeds=seeds, overrides=by_key(overrides))

    def tags() -> list[str]:
        draft_cells(load_study(study), request)
        return [study]

    return _alone(tags, lambda run: run_study(request, force))


def _alone(check: Callable[[], list[str]], work: Callable[[FlowRun], State[Any]]) -> State[Any]:
    """``work`` of the flow run as the only run in the project, after ``check``, which returns the tags of the flow run."""
    die_with_parent()
    os.chdir(find_project())
    try:
        run = claim(check())
        with flow_lock(Path(), get_run_logger().info):
            settle_abandoned(get_run_logger().info)
            return work(run)
    except InputError as error:
        return Failed(message=str(error))
    except KeyboardInterrupt:  # a user's wish, which Prefect would call a crash; it handles SIGTERM itself
        return Cancelled(message="stopped by Ctrl-C")


def by_key(overrides: dict[str, Any]) -> dict[str, Any]:
    """``overrides``, which may come by section, by section.key."""
    found: dict[str, Any] = {}
    for name, value in overrides.items():
        is_key = "." in name or not isinstance(value, dict)
        found |= {name: value} if is_key else {f"{name}.{key}": item for key, item in value.items()}
    return found


def run_pipeline(request: Request, run: FlowRun) -> State[Any]:
    """Run DVC, with the results on the page of the flow run; a failed state has the last lines of the stages that failed."""
    params, changes = checked(request, Path())  # again, since they may have changed while this one waited
    name, execution = experiment_name(run), execution_key()
    experiment = name if request.is_experiment else None
    command = [*request.command(name, changes), *([] if request.is_experiment else ["--keep-going"])]
    env = {"PATH": python_first(), "PYTHONUNBUFFERED": "1", EXECUTION: execution}
    failures, address = list[str](), None
    status: End = "KILLED"
    outcomes: dict[str, str] = {}
    try:
        with followed(command, env) as process:
            failures = follow_stages(process, outcomes)
        status = "FAILED" if failures else "FINISHED"
    finally:
        if status != "FINISHED":
            outcomes = dict.fromkeys(request.stages or stage_names(Path()), "not run") | outcomes
        if status != "FINISHED" or {"ran", "cached"} & {*outcomes.values()}:  # one in which nothing changed is no row in MLflow
            tracked = open_execution(params, with_versions=not request.is_experiment)  # the project's are not the experiment's
            tracked.run.tags({f"stage.{stage}": outcome for stage, outcome in outcomes.items()})
            if status == "FINISHED" and "report" in outcomes and (summary := last_summary(experiment)):
                track_result(summary, tracked.run)
            tracked.close(status)
            address = tracked.address
            for line in tracked.models:
                get_run_logger().info("MLflow: %s", line)
    if failures:
        failure = "\n".join(failures)
        publish(results_markdown(outcomes, None), address, failure)
        return failed(failure)
    with harmless():
        if request.is_experiment:
            about = f"DVC experiment {name}: `dvc exp show` compares it, `dvc exp apply {name}` takes it over"
        else:
            about = f"The results in the project folder; the report is `{PAGE.resolve()}`, on the machine that ran"
        publish(results_markdown(outcomes, last_summary(experiment)), address, about)
    done = [stage for stage, outcome in outcomes.items() if outcome == "ran"]
    message = f"{', '.join(done)} ran" if done else "everything was up to date"
    return Completed(message=message, data=(outcomes, run.id, experiment))


def run_study(request: StudyRequest, force: bool) -> State[Any]:
    """Run `gee study run`, with its tables on the page of the flow run; a failed state has the last lines of its output."""
    options = [*request.options(), *(["--force"] if force else [])]
    command = [sys.executable, "-m", "pipelines.cli", "study", "run", request.name, *options]
    with followed(command, {"PYTHONUNBUFFERED": "1"}) as process:
        output = show(lines_of(process))
    if process.returncode:
        return failed(why(f"study {request.name}", output))
    address = next((line.removeprefix(TRACKED) for line in output.splitlines() if line.startswith(TRACKED)), None)
    out = OUT / request.folder
    publish((out / "table.md").read_text(encoding="utf-8"), address, f"Tables and plots: {out.absolute()}")
    return Completed(message=f"study {request.name} is complete", data=str(out))


def publish(markdown: str, address: str | None, about: str) -> None:
    """Add the table of results to the run's page, and a link to MLflow where there is an ``address``."""
    with harmless():
        artifacts.create_markdown_artifact(markdown, "gee-results", about)
        if address:
            note = "`gee ui` serves it, if no other server does."
            artifacts.create_link_artifact(address, "The run in MLflow", "gee-mlflow", note)
