"""Tracks stages in MLflow: one run per pipeline execution, below it one per stage, below evolve's one per candidate.

Every call writes to disk and returns. Another process, the `drain`, writes to MLflow. No error of MLflow or of the disk reaches
the stage, and only at its end does the stage wait for MLflow.
"""

import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.storage.json_object import json_digest
from pipelines.project.paths import LOCK, PARAMS, find_project
from pipelines.runtime.process_tree import process_key
from pipelines.runtime.resume_folder import DONE, TRACKERS
from pipelines.runtime.settings import Settings
from pipelines.tracking import drain, entries, pipeline_run
from pipelines.tracking.entries import OWN, SHARED, End, Entry, ExportedModel, Log
from pipelines.tracking.experiment_page import search_views
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.redact import bare, redact
from pipelines.tracking.tags import NOTE, WINNER, WORK

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

log = logging.getLogger("pipelines.tracking")

Values = Mapping[str, object]
Metrics = Mapping[str, float | None]

LOAD_INTERVAL = 10.0
"""Seconds between two measurements of the load."""

LAST = "last_execution"
"""File beside the outboxes: the `execution_key` of the last stage that was tracked."""


class Tracker:
    """Where a stage's parameters, metrics and artifacts go: to `MLFLOW_TRACKING_URI`, by default mlflow.db in the project.

    Args:
        stage: its name; None for the run of a whole pipeline execution, or of a study.
        keys: parameters of every run, to filter by, also of candidates. None: nothing is tracked.
        files: are uploaded to the pipeline's run; by default params.yaml and dvc.lock.
        params: further parameters of the pipeline's run.
        study: the key of a study. ``name``: what the run of the pipeline or study is called.
    """

    def __init__(
        self,
        stage: str | None = None,
        keys: Values | None = None,
        files: list[Path] | None = None,
        params: dict[str, str] | None = None,
        study: str = "",
        name: str = "",
    ):
        self._stage, self._warned = stage, False
        self._ended = threading.Event()
        self._sampler: threading.Thread | None = None
        self.address: str | None = None
        """The page in MLflow of the run of the pipeline or study; None before `close`, in a stage, and while MLflow is away."""
        self._in_flow = pipeline_run.EXECUTION in os.environ
        self._lock = threading.Lock()  # the load of the machine is logged by a thread
        self._candidates: dict[str, str] = {}
        self._work, self._outbox = study, None
        if keys is None:
            return
        self._outbox = Outbox.new(outbox_root(), stage or ("study" if study else "pipeline"))
        self._work = study or self._outbox.name
        opening = entries.Open(
            stage=stage or "",
            name=name,
            keys=entries.texts(keys),
            params=dict(params or {}),
            store=bare(tracking_uri()),
            experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee",
            process=process_key(psutil.Process()),
            execution=pipeline_run.execution_key(),
            in_flow=self._in_flow,
            tags=pipeline_run.origin_tags(find_project()),
            files=self._versions() if files is None else self._kept(files),
            study=study,
        )
        if not self._add(opening):  # the disk is full: nothing of this run is tracked
            self._outbox.remove()
            self._outbox = None
            return
        with contextlib.suppress(OSError):
            (self._outbox.folder.parent / LAST).write_text(pipeline_run.execution_key())
        drain.start(self._outbox.folder.parent)

    def params(self, values: Values) -> None:
        """Log parameters; each key once per run."""
        self._add(Log(params=entries.texts(values)))

    def metrics(self, values: Metrics, step: int | None = None) -> None:
        """Log metrics, with ``step`` as points of curves, some also on the pipeline's run. A tag names those not finite."""
        finite, tags = entries.finite_metrics(values)
        self._add(Log(metrics=finite, tags=tags, step=step or 0))
        if step is not None and (shared := finite.keys() & pipeline_run.CURVES):
            self._add(Log(of=SHARED, metrics={f"curves/{name}": finite[name] for name in shared}, step=step))

    def tags(self, values: Values) -> None:
        """Set tags."""
        self._add(Log(tags=entries.texts(values)))

    def artifact(self, path: Path, folder: str = "", of: str = OWN) -> None:
        """Upload a file, as it is now, into ``folder``."""
        if kept := self._kept([path]):
            self._add(Log(of=of, files=kept, folder=folder))

    def search(self, genes: list[str], objectives: list[str]) -> None:
        """Let MLflow have views of the candidates, by ``genes`` and, if there are several, ``objectives``: names of metrics."""
        self._add(Log(views=search_views(genes, objectives)))

    def candidate(
        self, params: Values, metrics: Metrics, name: str, status: str, artifacts: dict[str, str], times: tuple[float, float]
    ) -> None:
        """Log a finished run; it failed unless ``status`` is ``ok`` or "outside: …". ``artifacts``: texts; ``times``: in s."""
        known = entries.texts({**params, "status": status})
        # A resumed search may score a candidate of the same name with other genes, which is another one.
        self._candidates[name] = f"{self._work}/{name}-{json_digest(known)}"
        finite, tags = entries.finite_metrics(metrics)
        start, ended = (round(1000 * seconds) for seconds in times)
        self._add(
            entries.Child(
                level="rescore" if params.get("rescored") else "candidate",
                key=self._candidates[name],
                name=name,
                params=known,
                metrics=finite,
                tags=tags | {"status": status},
                texts=artifacts,
                start=start,
                ended=ended,
                end="FINISHED" if status == "ok" or status.startswith("outside: ") else "FAILED",
            )
        )

    def winner(self, names: Iterable[str], ranks: Mapping[str, dict[str, float]]) -> None:
        """Mark candidates that were logged before, under these names, as those that won; log metrics that rank all, by name."""
        won = set(names)
        for name in dict.fromkeys([*ranks, *won]):
            values, tags = ({"winner": 1.0}, {WINNER: "true"}) if name in won else ({}, {})
            self._add(Log(of=self._candidates[name], metrics=ranks.get(name, {}) | values, tags=tags))

    def continues(self, folder: Path) -> None:
        """Note in ``folder``, from which this work is resumed, its name: candidates of an interrupted run move to this one."""
        if self._outbox is None:
            return
        note = folder / TRACKERS
        with contextlib.suppress(OSError):  # no space: the next run does not know this one
            if note.is_file() and not (folder / DONE).is_file():
                self._work = note.read_text(encoding="utf-8")
            else:
                note.write_text(self._work, encoding="utf-8")
        self.tags({WORK: self._work})

    def dataset(self, meta: "Meta", context: str) -> None:
        """Name the prepared images as input of the run and of its pipeline's; ``context``: `training` or `testing`."""
        self._add(entries.Dataset(dataset=entries.describe_dataset(meta, context), context=context))

    def result(self, metrics: Metrics, tags: Values, note: str, files: Iterable[Path]) -> None:
        """Log the result of a pipeline on its run. ``note``: Markdown."""
        finite, lost = entries.finite_metrics(metrics)
        self._add(Log(of=SHARED, metrics=finite, tags=entries.texts(tags) | lost | {NOTE: note}))
        for path in files:
            self.artifact(path, of=SHARED)

    def model(self, model: ExportedModel) -> None:
        """Log an exported model, and its metrics on the run too; register it if it says so, as champion or challenger."""
        kept = self._kept(files := model.files())
        if len(kept) == len(files):
            finite, lost = entries.finite_metrics(model.metrics)
            self._add(entries.LogModel(files=kept, model=replace(model, metrics=finite)))
            if lost:
                self.tags(lost)

    def watch(self) -> None:
        """Log the load of CPUs and memory, in percent and MB, under MLflow's names of system metrics, until it is closed."""
        self._sampler = threading.Thread(target=self._sample, name="system-metrics", daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        psutil.cpu_percent()  # the next call measures from here
        for step in itertools.count():
            if self._ended.wait(LOAD_INTERVAL):
                return
            memory, system = psutil.virtual_memory(), "system/system_memory_usage"
            load = {"system/cpu_utilization_percentage": psutil.cpu_percent(), f"{system}_percentage": memory.percent}
            self.metrics(load | {f"{system}_megabytes": memory.used / 1e6}, step)

    def close(self, status: End = "FINISHED", error: str = "") -> None:
        """End the run, with a tag ``error``, and wait until MLflow has everything, but not for a server that is away.

        A stage of `gee run` or of a flow ends at once, since these wait at their own end.
        """
        self._ended.set()
        if self._sampler:
            self._sampler.join()
        files = self._versions() if self._stage else []
        if not self._add(entries.Close(status=status, error=error[:500], files=files)) or self._outbox is None:
            return
        if self._in_flow and self._stage:
            drain.start(self._outbox.folder.parent)
        else:
            self.address = drain.wait(self._outbox, status)

    def _add(self, entry: Entry) -> bool:
        """Write ``entry`` to disk; returns whether it is there. What does not fit is lost, with one warning."""
        if self._outbox is None:
            return False
        try:
            with self._lock:
                self._outbox.append(entry)
        except (InputError, OSError) as error:
            self._warn(f"{error}; what cannot be written to disk is not tracked")
            return False
        return True

    def _versions(self) -> list[str]:
        """Copies of params.yaml and of dvc.lock, to which DVC adds the stage at work only after its end."""
        project = find_project()
        kept = self._kept([path for path in (project / PARAMS, project / LOCK) if path.is_file()])
        for file in kept:
            if self._outbox and self._stage and file.endswith(LOCK.name):
                pipeline_run.leave_out(self._stage, self._outbox.folder / file)
        return kept

    def _kept(self, paths: list[Path]) -> list[str]:
        """Paths of copies in the outbox; a file that is missing, or for which there is no space, is not uploaded."""
        kept: list[str] = []
        if self._outbox is None:
            return kept
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


def open_tracker(stage: str | None, params: Params, files: list[Path] | None = None) -> Tracker:
    """The tracker of ``stage``, or with None of a whole execution, which may be opened at its end; see `Tracker`."""
    if Settings.read().tracking == "off":
        return Tracker()
    name, settings = pipeline_run.described(params)
    tracker = Tracker(stage, pipeline_run.filter_keys(params), files, settings, name=name)
    if stage not in (None, "prepare", "report"):  # the others read these sections
        tracker.params(entries.flattened(params.model_dump(include={"base", "network"})))
    if stage in ("evolve", "train"):  # which last
        tracker.watch()
    return tracker


@contextlib.contextmanager
def tracked_execution(params: Params) -> Iterator[list[str]]:
    """Let the stages that the body starts be tracked as one execution, that of this process, whose run ends as the body does.

    The list that is yielded then holds the address of its page, if a stage ran and MLflow has answered.
    """
    addresses: list[str] = []
    if Settings.read().tracking == "off":
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
            addresses.extend(filter(None, [tracker.address]))
