"""Tracks stages in MLflow: one run per pipeline execution, below it one per stage, below evolve's one per candidate.

Every call writes to disk and returns; `delivery` writes to MLflow in the background, `gee track replay` writes what is left.
No error of MLflow or of the disk reaches the stage, and only at its end does the stage wait for MLflow.
"""

import contextlib
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.project.paths import LOCK, find_project
from pipelines.runtime import journal
from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.runtime.resume_folder import DONE, TRACKERS
from pipelines.runtime.settings import Settings
from pipelines.tracking import pipeline_run
from pipelines.tracking.dataset import describe_dataset
from pipelines.tracking.deliverer import living_deliverer
from pipelines.tracking.delivery import Delivery, limit
from pipelines.tracking.exported_model import ExportedModel
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.mlflow_values import finite_metrics, flattened, texts
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.protocol import NullTracker, Tracker
from pipelines.tracking.redact import bare, redact
from pipelines.tracking.system_metrics import SystemMetrics

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

log = logging.getLogger("pipelines.tracking")

WATCHED = ("evolve", "train")
"""Stages that last: the load of the machine is logged while they work."""

WIRED = (*WATCHED, "evaluate", "robustness", "export")
"""Stages that read the sections `base` and `network`, which are parameters of their runs too, as `section.key`."""


class MlflowTracker:
    """Writes to `MLFLOW_TRACKING_URI`, by default mlflow.db and mlartifacts in the project folder.

    Args:
        stage: its name; None for the run of a whole pipeline execution.
        keys: parameters of every run, to filter by; they replace a candidate's parameters of the same names.
        files: are uploaded to the pipeline's run; by default params.yaml and dvc.lock.
        opening: replaces values of the first entry, for other kinds of runs; ``params`` are further parameters of the
            pipeline's run.
    """

    def __init__(self, stage: str | None, keys: dict, files: list[Path] | None = None, **opening):
        self._stage, self._warned, self._watch, self._deliverer = stage, False, None, living_deliverer()
        self._candidates: dict[str, int] = {}
        level = opening.get("level") or ("pipeline" if stage is None else "stage")
        self._outbox = Outbox.new(outbox_root(), stage or level)
        project = find_project()
        values = {
            "level": level,
            "stage": stage,
            "name": pipeline_run.pipeline_name(keys),
            "keys": texts(keys),
            "params": {},
            "store": bare(tracking_uri()),
            "experiment": pipeline_run.experiment_name(),
            "process": process_key(psutil.Process()),
            "deliverer": self._deliverer,
            "execution": pipeline_run.execution_key(),
            "in_flow": pipeline_run.EXECUTION in os.environ,
            "tags": pipeline_run.origin_tags(project),
            "files": self._versions() if files is None else self._kept(files),
        }
        self._writer: MlflowWriter | None = None
        self._delivery: Delivery | None = None
        first = self._outbox.entry("open", **(values | opening))
        if not self._store(first) or self._deliverer is None:
            self._deliver(first, [first])

    def _deliver(self, opening: dict, entries: list[dict], fresh: bool = True) -> None:
        """Write ``entries``, and those that are added later, in this process."""
        self._writer = MlflowWriter(self._outbox, opening, tracking_uri(), fresh)
        self._delivery = Delivery(self._writer.uri)
        for entry in entries:
            self._delivery.put(self._writer, entry)

    def _take_over(self) -> None:
        """Write in this process what a deliverer that died has left."""
        self._outbox = Outbox(self._outbox.folder)
        if entries := self._outbox.entries():
            left = [entry for entry in entries if entry["n"] not in self._outbox.written]
            self._deliver(entries[0], left, fresh=False)

    def params(self, values: dict) -> None:
        self._log(params=texts(values))

    def metrics(self, values: dict, step: int | None = None) -> None:
        finite, tags = finite_metrics(values)
        self._log(metrics=finite, tags=tags, step=step or 0)

    def tags(self, values: dict) -> None:
        self._log(tags=texts(values))

    def _log(self, **values) -> None:
        self._add("log", **({"params": {}, "metrics": {}, "tags": {}, "step": 0} | values))

    def artifact(self, path: Path, folder: str = "") -> None:
        if kept := self._kept([path]):
            self._add("artifact", files=kept, folder=folder)

    def candidate(
        self,
        params: dict,
        metrics: dict,
        name: str,
        status: str,
        artifacts: dict[str, str],
        times: tuple[float, float],
    ) -> None:
        finite, tags = finite_metrics(metrics)
        entry = self._add(
            "candidate",
            name=name,
            params=texts({**params, "status": status}),
            metrics=finite,
            tags=tags | {"status": status},
            texts=artifacts,
            end="FINISHED" if status == "ok" else "FAILED",
            **dict(zip(("start", "ended"), (round(1000 * time) for time in times), strict=True)),
        )
        self._candidates[name] = entry["n"]

    def winner(self, names: Iterable[str], ranks: dict[str, dict[str, float]]) -> None:
        ranked = {str(self._candidates[name]): values for name, values in ranks.items()}
        self._add("winner", of=[self._candidates[name] for name in names], metrics=ranked)

    def continues(self, folder: Path) -> None:
        trackers = folder / TRACKERS
        earlier = [note["outbox"] for note in journal.read(trackers)]
        with contextlib.suppress(InputError):  # no space: the next run does not know this one
            journal.append(trackers, {"outbox": self._outbox.name}, durable=False)
        if earlier and not (folder / DONE).is_file():
            self._add("continues", earlier=earlier)

    def dataset(self, meta: "Meta", context: str) -> None:
        self._add("dataset", dataset=describe_dataset(meta, context), context=context)

    def result(self, metrics: dict, tags: dict, note: str, files: dict[Path, str]) -> None:
        finite, lost = finite_metrics(metrics)
        self._log(metrics=finite, tags=texts(tags) | lost, pipeline=True)
        self._add("note", text=note, pipeline=True)
        for path, folder in files.items():
            if kept := self._kept([path]):
                self._add("artifact", files=kept, folder=folder, pipeline=True)

    def address(self) -> str | None:
        return self._writer.address() if self._writer else None

    def watch(self) -> None:
        """Log the machine's load until the tracker is closed."""
        self._watch = SystemMetrics(self.metrics)

    def model(self, model: ExportedModel) -> None:
        kept = self._kept(files := model.files())
        if len(kept) == len(files):
            finite, lost = finite_metrics(model.metrics)
            if lost:
                self.tags(lost)
            about = asdict(model) | {"params": texts(model.params), "metrics": finite}
            about.pop("folder")
            self._add("model", files=kept, **about)

    def close(self, status: str = "FINISHED", error: str = "") -> None:
        if self._watch:
            self._watch.stop()
        self._add("close", status=status, error=error[:500], files=self._versions() if self._stage else [])
        if self._deliverer and is_gone(self._deliverer):
            self._take_over()
        if self._delivery:
            self._delivery.finish(limit(status), self._outbox.folder)

    def _add(self, kind: str, **values) -> dict:
        entry = self._outbox.entry(kind, **values)
        self._store(entry)
        if self._delivery:
            self._delivery.put(self._writer, entry)
        return entry

    def _store(self, entry: dict) -> bool:
        """Write ``entry`` to disk; returns whether it could be written."""
        try:
            self._outbox.append(entry)
        except (InputError, OSError) as error:
            self._warn(f"{error}; what MLflow does not receive during this run is lost")
            return False
        return True

    def _versions(self) -> list[str]:
        """Copies of params.yaml and of dvc.lock, to which DVC adds the stage at work only after its end."""
        kept = self._kept(pipeline_run.versions(find_project()))
        for file in kept:
            if self._stage and file.endswith(LOCK.name) and not Path(file).is_absolute():
                with contextlib.suppress(OSError):
                    pipeline_run.leave_out(self._stage, self._outbox.folder / file)
        return kept

    def _kept(self, paths: list[Path]) -> list[str]:
        """Paths of copies in the outbox; without space for copies, of the files themselves."""
        kept = []
        for path in paths:
            try:
                kept.append(self._outbox.keep(path))
            except FileNotFoundError as error:
                self._warn(f"{error}; it is not uploaded")
            except OSError as error:
                self._warn(f"{error}; {path} is uploaded in its later state")
                kept.append(str(path.resolve()))
        return kept

    def _warn(self, message: str) -> None:
        if not self._warned:
            log.warning("tracking: %s", redact(message))
        self._warned = True


def tracking_is_off() -> bool:
    """Whether GEE_TRACKING is ``off``."""
    return Settings.read().tracking == "off"


def open_tracker(stage: str | None, params: Params, **opening) -> Tracker:
    """The tracker of ``stage``, or with None of a whole pipeline execution; with GEE_TRACKING=off a `NullTracker`.

    The one of a whole execution may be opened at its end: it then ends the run that the stages have made. ``opening``:
    further arguments of `MlflowTracker`.
    """
    if tracking_is_off():
        return NullTracker()
    tracker = MlflowTracker(stage, pipeline_run.filter_keys(params), params=texts(flattened(params.model_dump())), **opening)
    if stage in WIRED:
        tracker.params(flattened(params.model_dump(include={"base", "network"})))
    if stage in WATCHED:
        tracker.watch()
    return tracker
