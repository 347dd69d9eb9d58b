"""Opens the run folders of stages, executions and studies for MLflow, and closes them.

There is one run per execution of the pipeline, below it one per stage, below evolve's one per candidate. Each is a folder
(`pipelines.runtime.run_folder`). Another process makes MLflow equal to the folders (`pipelines.tracking.publish`). Only the
process that runs the pipeline waits for it at its end.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gee_core.config import Params
from gee_core.storage.json_object import json_digest
from pipelines.project.paths import find_project
from pipelines.runtime.process_tree import is_gone
from pipelines.runtime.redact import bare
from pipelines.runtime.run_files import End, Level, Record, all_records, as_texts, now_ms, waiting_folders
from pipelines.runtime.run_folder import RunFolder, delete_finished, own_process, runs_root
from pipelines.runtime.settings import Settings
from pipelines.tracking import pipeline_run, publish
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.tags import ERROR, NAME, STAGE

log = logging.getLogger("pipelines.tracking")

RESUMING = ("evolve", "train", "plain")
"""Stages that go on in the folder of their run key."""


@dataclass
class Execution:
    """A run that other runs lie below: of a whole execution of the pipeline, or of a study."""

    run: RunFolder
    address: str | None = None
    """Its page in MLflow; None before `close`, and while MLflow is away."""
    models: list[str] = field(default_factory=list)
    """What became of the models that its stages registered."""

    def close(self, status: End, error: str = "") -> None:
        """End the run, and wait until MLflow has it and all below it, but not for a server that is away."""
        self.run.note(tags=_error_tags(error))
        self.run.end(status)
        if self.run.is_kept:
            publish.start(self.run.record.execution)
            self.address, self.models = publish.wait(self.run)


@dataclass
class TrackedStage:
    """The run of a stage, and the execution that it belongs to."""

    run: RunFolder
    execution: Execution

    def close(self, status: End, error: str = "") -> None:
        """End the run, and what it changes of its execution's."""
        above, run = self.execution.run, self.run
        run.note(tags=_error_tags(error))
        run.end(status)
        if above.is_kept:
            pipeline_run.upload_versions(above, without=run.record.stage)
            ended = {f"stage.{run.record.stage}": "ran" if status == "FINISHED" else status.lower()}
            above.note(tags=ended | _error_tags(error))
            publish.start(above.record.execution)
        if pipeline_run.EXECUTION not in os.environ:  # nobody else ends it
            ends = {value for tag, value in above.record.tags.items() if tag.startswith("stage.")}
            end: End = "FAILED" if "failed" in ends else "KILLED" if "killed" in ends else "FINISHED"
            if above.record.execution == own_process():
                self.execution.close(end)
            else:
                above.end(end)


def _error_tags(error: str) -> dict[str, str]:
    return {ERROR: error[:500]} if error else {}


def _tracked_record(level: Level, execution: str) -> Record:
    """The record of a new run. It is for the MLflow of this environment, unless tracking is off."""
    is_off = Settings.read().tracking == "off"
    return Record(
        level=level,
        store="" if is_off else bare(tracking_uri()),
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee",
        process=own_process(),
        execution=execution,
        start=now_ms(),
    )


def _pipeline_record(params: Params, execution: str) -> Record:
    """The record of a new run of a pipeline with these ``params``."""
    record = _tracked_record("pipeline", execution)
    record.name, record.params = pipeline_run.described(params)
    record.entry, record.settings, record.process = f"{execution}/pipeline", json_digest(record.params), execution
    return record


def open_execution(params: Params, with_versions: bool = True, stage: str = "") -> Execution:
    """The run of the execution that this process is or belongs to; it may be opened at its end, or by a ``stage``.

    If an execution with the same settings was interrupted, this one goes on in its run. ``with_versions``: the settings and
    results of this folder are those of the execution.
    """
    new = _pipeline_record(params, execution := pipeline_run.execution_key())
    folder, record = find_execution(new) or (runs_root() / f"pipeline-{json_digest({'entry': new.entry})}", new)
    run = RunFolder(folder, record)
    if run.is_kept:
        delete_finished("pipeline", folder)
        if record is new or record.execution != execution:
            record.tags.pop(ERROR, None)  # of an interrupted one
            record.tags |= pipeline_run.origin_tags(find_project())
        record.process, record.execution, record.status = execution, execution, None
        run.save()
        if with_versions:
            pipeline_run.upload_versions(run, without=stage)
        publish.start(execution)
    return Execution(run)


def find_execution(wanted: Record) -> tuple[Path, Record] | None:
    """The newest run of the execution ``wanted``, or of an interrupted one with the same settings, and its folder."""
    found = None
    for folder, record in all_records(runs_root()).items():
        if record.level == "pipeline" and (record.store, record.experiment) == (wanted.store, wanted.experiment):
            if record.execution == wanted.execution:
                return folder, record
            if record.settings == wanted.settings and record.status != "FINISHED" and is_gone(record.execution):
                found = folder, record
    return found


def open_stage(name: str, params: Params, writes: bool = True) -> TrackedStage:
    """The run of the stage ``name``. Only one of several processes that do the stage together ``writes``."""
    if not writes or Settings.read().tracking == "off":
        path = runs_root() / f"{name}-untracked"
        run = RunFolder(path, Record(level="stage", stage=name, process=own_process()))
        return TrackedStage(run, Execution(RunFolder(path, Record(level="pipeline"))))
    execution = open_execution(params, stage=name)
    above = execution.run.record
    record = _tracked_record("stage", above.execution)
    record.stage, record.name, record.above, record.entry = name, f"{name} · {above.name}", above.entry, f"{above.entry}/{name}"
    record.tags = pipeline_run.origin_tags(find_project()) | {STAGE: name, NAME: above.name}
    record.params = as_texts(pipeline_run.filter_keys(params))
    if name not in ("prepare", "report"):  # the others read these sections
        record.params |= as_texts(pipeline_run.flattened(params.model_dump(include={"base", "network"})))
    run = RunFolder(runs_root() / f"{name}-{json_digest({'entry': record.entry})}", record)
    if name not in RESUMING:
        delete_finished(name, run.path)
        run.save()
    return TrackedStage(run, execution)


def open_study(key: str, name: str, params: dict[str, str]) -> Execution:
    """The run of the study with this ``key``, in which a repeated study goes on. Its cells are its children."""
    record = _tracked_record("study", own_process())
    record.entry, record.work, record.name = f"study/{key}", key, name
    record.params, record.tags = params, pipeline_run.origin_tags(find_project())
    run = RunFolder(runs_root() / f"study-{key}", record)
    if run.is_kept:
        run.save()
        publish.start(record.execution)
    return Execution(run)


@dataclass
class Tracked:
    """What `tracked_execution` yields."""

    params: Params
    with_versions: bool
    goes_on: bool = False
    """Whether an execution with the same settings was interrupted, so that this one ends it even if no stage has to run."""
    execution: Execution | None = None
    """The run of the execution, if there is one by now."""

    def open(self) -> Execution:
        """The run of the execution."""
        self.execution = self.execution or open_execution(self.params, self.with_versions)
        return self.execution


@contextmanager
def tracked_execution(params: Params, whole: bool = True, with_versions: bool = True) -> Iterator[Tracked]:
    """Let the stages that the body starts be one execution, that of this process, whose run ends as the body does.

    An execution in which no stage runs has no run, but it publishes what waits. If it is a ``whole`` one, it ends the run of an
    interrupted one with the same settings. ``with_versions``: as of `open_execution`.
    """
    tracked = Tracked(params, with_versions)
    if Settings.read().tracking == "off":
        yield tracked
        return
    wanted = _pipeline_record(params, own_process())  # a store that cannot be used is refused before anything runs
    last = find_execution(wanted)
    tracked.goes_on = whole and last is not None and last[1].status != "FINISHED"
    os.environ[pipeline_run.EXECUTION] = wanted.execution
    status: End = "KILLED"
    try:
        yield tracked
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        del os.environ[pipeline_run.EXECUTION]
        found = find_execution(wanted)
        if found and (found[1].execution == wanted.execution or (tracked.goes_on and status == "FINISHED")):
            tracked.open()
        if tracked.execution:
            tracked.execution.close(status)
        elif status == "FINISHED" and waiting_folders(runs_root()):
            publish.start(wanted.execution)
            publish.wait(None)
