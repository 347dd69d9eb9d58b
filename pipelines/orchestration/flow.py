"""The pipeline and studies as Prefect flows, each of which runs one command of `gee` and shows what it prints.

`gee run` and `gee study run` check the request, wait for another run in the project and track the run in MLflow.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated

from prefect import artifacts, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed
from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue

from gee_core.config import Params
from gee_core.errors import InputError, in_short
from gee_core.storage.atomic_files import write_atomically
from pipelines.inputs.measured import Exported, read_metrics
from pipelines.orchestration.follow import fail, follow_process, harmless
from pipelines.orchestration.request import Request, last_summary
from pipelines.project.params import Values, load_params
from pipelines.project.paths import IN_USE, PAGE, UPDATE, find_project
from pipelines.project.presets import preset_names
from pipelines.reporting.verdict import summary_markdown
from pipelines.runtime.process_tree import die_with_parent, followed
from pipelines.runtime.redact import bare
from pipelines.studies.plan import Request as StudyRequest
from pipelines.studies.reports import OUT
from pipelines.tracking.pipeline_run import FLOW_RUN

Ended = State[str] | State[tuple[dict[str, str], str]]
"""Why a flow failed; or what became of each stage, and the address of its page."""

PIPELINE, STUDY = "gee", "gee-study"
"""Names of the flows."""


class _Form:
    """The schema of the form: the settings of `Params`, described by their values in params.yaml, if that is valid.

    No setting is required. It has no defaults and no switches, which the form sends for fields that nobody touched.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, _: object, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(Params.__pydantic_core_schema__)
        form = handler.resolve_ref_schema(schema)
        del form["additionalProperties"]  # section.key
        cls._require_nothing(form, handler)
        try:
            values = load_params().model_dump(mode="json")
        except (InputError, OSError):
            values = {}
        for name, link in form["properties"].items():
            section = handler.resolve_ref_schema(link)
            section |= {"title": name}
            for key, value in values.get(name, {}).items():
                field = section["properties"][key]
                field["description"] = f"`{in_short(json.dumps(value))}` in params.yaml. {field['description']}"
        return schema

    @classmethod
    def _require_nothing(cls, model: JsonSchemaValue, handler: GetJsonSchemaHandler) -> None:
        """Require no field of ``model`` and of the models in it, and leave out what the form would send by itself."""
        model.pop("required", None)
        for field in model["properties"].values():
            field.pop("default", None)
            if field.get("type") == "boolean":
                del field["type"]
                field["enum"] = [True, False]
            for kind in (field, field.get("items", {}), *field.get("anyOf", [])):
                if "$ref" in kind:
                    cls._require_nothing(handler.resolve_ref_schema(kind), handler)


Overrides = Annotated[Values, _Form]
"""New values of params.yaml, by section, or by section.key."""

Preset = Annotated[str | None, WithJsonSchema({"enum": [*preset_names(), None]})]
"""A preset of this project, or None."""


@flow(name=PIPELINE, retries=0)
def pipeline_flow(
    preset: Preset = None,  # first, since the form has all settings after it
    overrides: Overrides = {},  # noqa: B006 - Prefect copies it
    stages: list[str] = [],  # noqa: B006
    force: bool = False,
) -> Ended:
    """Bring the pipeline up to date, or run an experiment.

    Returns what became of each stage, and the address of its page. Waits for another run in this project.

    Args:
        preset: Start from this preset instead of params.yaml, as a DVC experiment.
        overrides: New values of params.yaml, such as {"evolve": {"n_generations": 1}} or {"evolve.n_generations": 1}. Overrides
            and presets run as a DVC experiment: params.yaml and the results in the project stay as they are.
            The form shows the values of params.yaml when `gee flow serve` or `prefect deploy` made it.
        stages: Bring these stages up to date, and what they need. Empty: all.
        force: Run unchanged stages too.

    Where the project trains an update (`train.parts`), the flow keeps the better one on the hold-out as inputs/network.update.
    """
    request = Request(by_key(overrides), stages, force, preset)
    name = experiment_name(current_run())
    experiment = name if request.is_experiment else None
    about = f"The results in the project folder; the report is `{PAGE.resolve()}`, on the machine that ran"
    if experiment:
        about = f"DVC experiment {name}: `dvc exp show` compares it, `dvc exp apply {name}` takes it over"

    def table() -> str:
        summary = last_summary(experiment)
        return summary_markdown(summary) if summary else ""

    ended = run_gee(["run", "--keep-going", "--name", name, *request.options()], table, about)
    if ended.is_completed() and not experiment:
        keep_better_update()
    return ended


def keep_better_update() -> None:
    """Take the update that the run exported into use if it is better on the hold-out than the one in use, or the first."""
    if UPDATE.is_file() and read_metrics("export", Exported).has_better_update:
        write_atomically(IN_USE, UPDATE.read_bytes())


@flow(name=STUDY, retries=0)
def study_flow(
    study: str,
    preset: Preset = None,
    seeds: int | None = None,
    overrides: Overrides = {},  # noqa: B006 - Prefect copies it
    force: bool = False,
) -> Ended:
    """Run the cells of a study that have no result. Waits for another run here.

    Args:
        study: A file in studies/, without its ending.
        preset: Start from this preset instead of the study's.
        seeds: Number of seeds per cell. None: the study's.
        overrides: New values of params.yaml in every cell, such as {"train": {"epochs": 5}}.
        force: Run all cells, also those that have a result.
    """
    request = StudyRequest(study, preset, seeds=seeds, overrides=by_key(overrides))
    out = find_project() / OUT / request.folder
    options = [*request.options(), *(["--force"] if force else [])]
    table = lambda: (out / "table.md").read_text(encoding="utf-8")  # noqa: E731
    return run_gee(["study", "run", study, *options], table, f"Tables and plots: {out}")


def run_gee(arguments: list[str], table: Callable[[], str], about: str) -> Ended:
    """Run a command of `gee`, whose results are a ``table`` on the page of the flow run; ``about`` says where they are."""
    die_with_parent()
    os.chdir(find_project())
    run, outcomes = current_run(), dict[str, str]()
    named = {"prefect.flow_run": run.name, "prefect.flow_run_id": str(run.id), "prefect.url": page(run)}
    env = {"PYTHONUNBUFFERED": "1", FLOW_RUN: json.dumps({tag: value for tag, value in named.items() if value})}
    try:
        with followed([sys.executable, "-m", "pipelines.cli", *arguments], env) as process:
            output, failures = follow_process(process, outcomes)
    except KeyboardInterrupt:  # a user's wish, which Prefect would call a crash; it handles SIGTERM itself
        return Cancelled(message="stopped by Ctrl-C")
    lines = ["| stage | outcome |", "|---|---|", *(f"| {stage} | {outcome} |" for stage, outcome in outcomes.items())]
    stages = "\n".join(lines) if outcomes else ""
    with harmless():
        tables = [stages] if failures else [table(), stages]
        artifacts.create_markdown_artifact("\n\n".join(filter(None, tables)), "gee-results", "\n".join(failures) or about)
        if addresses := re.findall(r"https?://\S+/#/experiments/\S+", output):
            note = "`gee ui` serves it, if no other server does."
            artifacts.create_link_artifact(addresses[-1], "The run in MLflow", "gee-mlflow", note)
    if failures:
        return fail("\n".join(failures))
    done = [stage for stage, outcome in outcomes.items() if outcome == "ran"]
    message = f"{', '.join(done)} ran" if done else "everything was up to date" if outcomes else f"{arguments[-1]} is complete"
    return Completed(message=message, data=(outcomes, page(run) or f"/runs/flow-run/{run.id}"))


def current_run() -> FlowRun:
    """The flow run that this code is called in."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return context.flow_run


def page(run: FlowRun) -> str | None:
    """The page of a flow run on the Prefect server, if there is one; without user and password."""
    api = bare(os.environ.get("PREFECT_API_URL", ""))
    return f"{api.removesuffix('/api')}/runs/flow-run/{run.id}" if api.endswith("/api") else None


def experiment_name(run: FlowRun) -> str:
    """The name of the experiment of a flow run, a new name for each attempt: the run's own, without what DVC refuses."""
    attempt = f"-{run.run_count}" if run.run_count > 1 else ""
    return re.sub(r"[^\w-]+", "-", f"{run.name}-{str(run.id)[:4]}{attempt}").lstrip("-")


def by_key(overrides: Values) -> Values:
    """``overrides``, which may come by section, by section.key."""
    found = Values()
    for name, value in overrides.items():
        is_key = "." in name or not isinstance(value, dict)
        found |= {name: value} if is_key else {f"{name}.{key}": item for key, item in value.items()}
    return found
