"""Tracks stages in MLflow: one run per pipeline execution, below it one per stage, below evolve's one per candidate.

Every call writes to disk and returns; another process, the `drain`, writes to MLflow. No error of MLflow or of the disk reaches
the stage, and only at its end does the stage wait for MLflow.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.storage.json_object import json_digest
from pipelines.project.paths import LOCK, find_project
from pipelines.runtime.process_tree import process_key
from pipelines.runtime.resume_folder import DONE, TRACKERS
from pipelines.runtime.settings import Settings
from pipelines.tracking import drain_process, pipeline_run
from pipelines.tracking.dataset import describe_dataset
from pipelines.tracking.entries import (
    SHARED,
    Child,
    Close,
    Dataset,
    End,
    Entry,
    ExportedModel,
    Log,
    LogModel,
    Open,
    finite_metrics,
    flattened,
    texts,
)
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.protocol import Metrics, NullTracker, Tracker, Values
from pipelines.tracking.redact import bare, redact
from pipelines.tracking.system_metrics import sample
from pipelines.tracking.tags import NOTE, WINNER, WORK

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

log = logging.getLogger("pipelines.tracking")

WATCHED = ("evolve", "train")
"""Stages that last: the load of the machine is logged while they work."""

WIRED = (*WATCHED, "evaluate", "robustness", "export")
"""Stages that read the sections `base` and `network`, which are parameters of their runs too, as `section.key`."""

LAST = "last_execution"
"""File beside the outboxes: the `execution_key` of the last stage that was tracked."""


class MlflowTracker:
    """Writes to `MLFLOW_TRACKING_URI`, by default mlflow.db and mlartifacts in the project folder.

    Args:
        stage: its name; None for the run of a whole pipeline execution, or of a study.
        keys: parameters of every run, to filter by; they replace a candidate's parameters of the same names.
        files: are uploaded to the pipeline's run; by default params.yaml and dvc.lock.
        params: further parameters of the pipeline's run.
        study: the key of a study.
        name: of the run of the pipeline or study.
    """

    def __init__(
        self,
        stage: str | None,
        keys: Values,
        files: list[Path] | None = None,
        params: Mapping[str, str] | None = None,
        study: str = "",
        name: str = "",
    ):
        self._stage, self._began, self._warned = stage, time.monotonic(), False
        self._stop_sampling: Callable[[], None] = lambda: None
        self._address: str | None = None
        self._in_flow = pipeline_run.EXECUTION in os.environ
        self._unstored: list[Entry] = []
        self._lock = threading.Lock()  # the load of the machine is logged by a thread
        self._outbox = Outbox.new(outbox_root(), stage or ("study" if study else "pipeline"))
        self._work = study or self._outbox.name
        self._candidates: dict[str, str] = {}
        self._add(
            Open(
                stage=stage or "",
                name=name or pipeline_run.pipeline_name(keys),
                keys=texts(keys),
                params=dict(params or {}),
                store=bare(tracking_uri()),
                experiment=pipeline_run.experiment_name(),
                process=process_key(psutil.Process()),
                execution=pipeline_run.execution_key(),
                in_flow=self._in_flow,
                tags=pipeline_run.origin_tags(find_project()),
                files=self._versions() if files is None else self._kept(files),
                study=study,
            )
        )
        with contextlib.suppress(OSError):
            (self._outbox.folder.parent / LAST).write_text(pipeline_run.execution_key())
        drain_process.start(self._outbox.folder.parent)

    def params(self, values: Values) -> None:
        self._add(Log(params=texts(values)))

    def metrics(self, values: Metrics, step: int | None = None) -> None:
        finite, tags = finite_metrics(values)
        self._add(Log(metrics=finite, tags=tags, step=step or 0))

    def tags(self, values: Values) -> None:
        self._add(Log(tags=texts(values)))

    def artifact(self, path: Path, folder: str = "") -> None:
        if kept := self._kept([path]):
            self._add(Log(files=kept, folder=folder))

    def candidate(
        self, params: Values, metrics: Metrics, name: str, status: str, artifacts: dict[str, str], times: tuple[float, float]
    ) -> None:
        known = texts({**params, "status": status})
        # A resumed search may score a candidate of the same name with other genes, which is another one.
        self._candidates[name] = f"{self._work}/{name}-{json_digest(known)}"
        finite, tags = finite_metrics(metrics)
        start, ended = (round(1000 * seconds) for seconds in times)
        self._add(
            Child(
                level="candidate",
                key=self._candidates[name],
                name=name,
                params=known,
                metrics=finite,
                tags=tags | {"status": status},
                texts=artifacts,
                start=start,
                ended=ended,
                end="FINISHED" if status == "ok" else "FAILED",
            )
        )

    def winner(self, names: Iterable[str], ranks: Mapping[str, dict[str, float]]) -> None:
        won = {self._candidates[name] for name in names}
        ranked = {self._candidates[name]: values for name, values in ranks.items()}
        for key in ranked | dict.fromkeys(won):
            values, tags = ({"winner": 1.0}, {WINNER: "true"}) if key in won else ({}, {})
            self._add(Log(of=key, metrics=ranked.get(key, {}) | values, tags=tags))

    def continues(self, folder: Path) -> None:
        note = folder / TRACKERS
        with contextlib.suppress(OSError):  # no space: the next run does not know this one
            if note.is_file() and not (folder / DONE).is_file():
                self._work = note.read_text(encoding="utf-8")
            else:
                note.write_text(self._work, encoding="utf-8")
        self.tags({WORK: self._work})

    def dataset(self, meta: "Meta", context: str) -> None:
        self._add(Dataset(dataset=describe_dataset(meta, context), context=context))

    def result(self, metrics: Metrics, tags: Values, note: str, files: Mapping[Path, str]) -> None:
        finite, lost = finite_metrics(metrics)
        self._add(Log(of=SHARED, metrics=finite, tags=texts(tags) | lost | {NOTE: note}))
        for path, folder in files.items():
            if kept := self._kept([path]):
                self._add(Log(of=SHARED, files=kept, folder=folder))

    def address(self) -> str | None:
        return self._address

    def watch(self) -> None:
        """Log the machine's load until the tracker is closed."""
        self._stop_sampling = sample(self.metrics)

    def model(self, model: ExportedModel) -> None:
        kept = self._kept(files := model.files())
        if len(kept) == len(files):
            finite, lost = finite_metrics(model.metrics)
            if lost:
                self.tags(lost)
            self._add(LogModel(files=kept, model=replace(model, metrics=finite)))

    def close(self, status: End = "FINISHED", error: str = "") -> None:
        self._stop_sampling()
        self._add(Close(status=status, error=error[:500], files=self._versions() if self._stage else []))
        if self._in_flow and self._stage:
            drain_process.start(self._outbox.folder.parent)
        elif not self._unstored:
            self._address = drain_process.wait(self._outbox, status, time.monotonic() - self._began)

    def _add(self, entry: Entry) -> None:
        """Write ``entry`` to disk, after those for which there was no space before."""
        with self._lock:
            self._unstored.append(entry)
            try:
                while self._unstored:
                    self._outbox.append(self._unstored[0])
                    self._unstored.pop(0)
            except (InputError, OSError) as error:
                self._warn(f"{error}; what cannot be written to disk until the end of this run is lost")

    def _versions(self) -> list[str]:
        """Copies of params.yaml and of dvc.lock, to which DVC adds the stage at work only after its end."""
        kept = self._kept(pipeline_run.versions(find_project()))
        for file in kept:
            if self._stage and file.endswith(LOCK.name):
                pipeline_run.leave_out(self._stage, self._outbox.folder / file)
        return kept

    def _kept(self, paths: list[Path]) -> list[str]:
        """Paths of copies in the outbox; a file that is missing, or for which there is no space, is not uploaded."""
        kept = []
        for path in paths:
            try:
                kept.append(self._outbox.keep(path))
            except OSError as error:
                self._warn(f"{error}; {path} is not uploaded")
        return kept

    def _warn(self, message: str) -> None:
        if not self._warned:
            log.warning("tracking: %s", redact(message))
        self._warned = True


def tracking_is_off() -> bool:
    """Whether GEE_TRACKING is ``off``."""
    return Settings.read().tracking == "off"


def open_tracker(stage: str | None, params: Params, files: list[Path] | None = None) -> Tracker:
    """The tracker of ``stage``, or with None of a whole pipeline execution; with GEE_TRACKING=off a `NullTracker`.

    The one of a whole execution may be opened at its end: it then ends the run that the stages have made. ``files``: those of
    `MlflowTracker`.
    """
    if tracking_is_off():
        return NullTracker()
    keys = pipeline_run.filter_keys(params)
    tracker = MlflowTracker(stage, keys, files, texts(flattened(params.model_dump())))
    if stage in WIRED:
        tracker.params(flattened(params.model_dump(include={"base", "network"})))
    if stage in WATCHED:
        tracker.watch()
    return tracker


@contextlib.contextmanager
def tracked_execution(params: Params) -> Iterator[list[str]]:
    """Let the stages that the body starts be tracked as one execution, that of this process, whose run ends as the body does.

    It ends FINISHED, FAILED with an error, KILLED where it is stopped. What is yielded then holds the address of its page, if
    a stage ran and MLflow has answered.
    """
    addresses: list[str] = []
    if tracking_is_off():
        yield addresses
        return
    tracking_uri()  # one that cannot be used is refused before anything runs
    os.environ[pipeline_run.EXECUTION] = key = process_key(psutil.Process())
    status: End = "KILLED"
    try:
        yield addresses
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        del os.environ[pipeline_run.EXECUTION]
        last = outbox_root() / LAST
        if last.is_file() and last.read_text() == key:
            tracker = open_tracker(None, params)
            tracker.close(status)
            addresses.extend(filter(None, [tracker.address()]))
