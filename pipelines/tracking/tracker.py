"""Tracks stages in MLflow: one run per pipeline execution, below it one per stage, below evolve's one per candidate.

Every call adds to small files and returns (`pipelines.tracking.folder`). Another process publishes these files
(`pipelines.tracking.publish`). No error of MLflow or of the disk reaches the stage. Only the process that runs the pipeline
waits at its end.
"""

import contextlib
import itertools
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically
from gee_core.storage.json_object import json_digest
from pipelines.project.paths import LOCK, find_project
from pipelines.runtime.process_tree import process_key
from pipelines.runtime.redact import bare, redact, redacted
from pipelines.runtime.settings import Settings
from pipelines.tracking import pipeline_run, publish
from pipelines.tracking.experiment_page import search_views
from pipelines.tracking.folder import LOG, RUN, End, ExportedModel, Run, Told, finite_metrics, flattened, texts, tracking_root
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.tags import ERROR, NAME, PROCESS, SETTINGS, STAGE, STUDY, WORK

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

log = logging.getLogger("pipelines.tracking")

LOAD_INTERVAL = 10.0
"""Seconds between two measurements of the load."""

LAST = "last_execution"
"""File beside the folders: the `execution_key` of the last stage that was tracked."""


class Tracker:
    """Where a stage's parameters, metrics and artifacts go: to `MLFLOW_TRACKING_URI`, by default mlflow.db in the project.

    Args:
        stage: its name; None for the run of a whole pipeline execution, or of a study.
        keys: parameters of every run, to filter by, also of candidates. None: nothing is tracked.
        files: are uploaded to the pipeline's run; by default params.yaml and dvc.lock.
        params: further parameters of the pipeline's run.
        study: the key of a study.
        name: what the run of the pipeline or study is called.
    """

    def __init__(
        self,
        stage: str | None = None,
        keys: Mapping[str, object] | None = None,
        files: list[Path] | None = None,
        params: dict[str, str] | None = None,
        study: str = "",
        name: str = "",
    ):
        self.address: str | None = None
        """The page in MLflow of the run of the pipeline or study; None before `close`, in a stage, and while MLflow is away."""
        self.models: list[str] = []
        """What became of the models that the pipeline has registered."""
        self._warned, self._closed = False, threading.Event()
        self._sampler: threading.Thread | None = None
        self._search, self._children = study, dict[str, str]()
        self._told: Told | None = None
        if keys is None:
            return
        root, execution, begin = tracking_root(), pipeline_run.execution_key(), _now()
        level, work = ("study", study) if study else ("pipeline", execution)
        self.folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{stage or level}-{uuid.uuid4().hex[:8]}"
        self._keys, self._process = texts(keys), process_key(psutil.Process())
        origin = pipeline_run.origin_tags(find_project()) | {PROCESS: execution} | ({STUDY: study} if study else {})
        settings = json_digest(self._keys | (params or {}) | {"project": str(root), "study": study})
        own = shared = Run(key=f"{work}/{level}", level=level, name=name, tags=origin | {SETTINGS: settings}, start=begin)
        if stage:
            tags = origin | {STAGE: stage, NAME: name, PROCESS: self._process}
            own = Run(key=f"{self.folder.name}/stage", level="stage", name=f"{stage} · {name}", tags=tags, start=begin)
        self._told = Told(
            stage=stage or "",
            own=own,
            shared=shared,
            store=bare(tracking_uri()),
            experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee",
            process=self._process,
            execution=execution,
            in_flow=pipeline_run.EXECUTION in os.environ,
        )
        if not self._save():  # the disk is full: nothing of this run is tracked
            self._told = None
            return
        self._tell(shared=True, params=self._keys | (params or {}))
        if stage:
            self._tell(params=self._keys)
        for path in pipeline_run.versions() if files is None else files:
            self.artifact(path, shared=True)
        with contextlib.suppress(OSError):
            (root / LAST).write_text(execution)
        publish.start(root, execution)

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; each key once per run."""
        self._tell(params=texts(values))

    def metrics(self, values: Mapping[str, float | None], step: int | None = None, shared: bool = False) -> None:
        """Log metrics, with ``step`` as points of curves, some also on the pipeline's run. A tag names those not finite.

        ``shared``: all of them on the pipeline's run alone.
        """
        finite, lost = finite_metrics(values)
        self._tell(shared=shared, step=step or 0, metrics=finite, tags=lost)
        if step is not None and (names := finite.keys() & pipeline_run.CURVES):
            self._tell(shared=True, step=step, metrics={f"curves/{name}": finite[name] for name in names})

    def tags(self, values: Mapping[str, object], shared: bool = False) -> None:
        """Set tags, with ``shared`` on the pipeline's run."""
        self._tell(shared=shared, tags=texts(values))

    def artifact(self, path: Path, folder: str = "", shared: bool = False) -> None:
        """Upload a file, as it is now, into ``folder``, with ``shared`` to the pipeline's run."""
        place = str(PurePath("shared" if shared else "own", folder, path.name))
        if self._keep(path, place):
            self._tell(shared=shared, artifact=place)

    def search(self, key: str, genes: list[str], objectives: list[str]) -> None:
        """Begin the search with this ``key``, and let MLflow have views of its candidates, by ``genes`` and ``objectives``.

        Candidates of one key are the same runs however often the search is repeated: they move below the last stage.
        """
        self._search = key
        self._tell(tags={WORK: key}, views=search_views(genes, objectives))

    def child(self, label: str, run: Run) -> None:
        """Log a finished run below this one; those of one search or study with one ``label`` are one run."""
        if self._told:
            tags = run.tags | {PROCESS: self._process} | ({NAME: self._told.shared.name} if self._told.stage else {})
            key = self._children[run.name] = f"{self._search}/{label}"
            self._add(run.model_copy(update={"key": key, "tags": tags, "params": self._keys | run.params}))

    def mark(self, marks: Mapping[str, tuple[dict[str, float], dict[str, str]]]) -> None:
        """Add metrics and tags to children that were logged before, by their names."""
        for name, (metrics, tags) in marks.items() if self._told else ():
            self._add(Run(key=self._children[name], time=_now(), metrics=metrics, tags=tags))

    def dataset(self, meta: "Meta", context: str) -> None:
        """Name the prepared images as input of the run and of its pipeline's; ``context``: `training` or `testing`."""
        for shared in (False, True) if self._told else ():
            self._tell(shared=shared, dataset=(context, pipeline_run.describe_dataset(meta, context)))

    def model(self, model: ExportedModel) -> None:
        """Log an exported model, and its metrics on the run too; register it if it says so, as champion or challenger."""
        if all([self._keep(path, f"model/{path.name}") for path in model.files().values()]):
            finite, lost = finite_metrics(model.metrics)
            self._tell(model=replace(model, metrics=finite, folder=self.folder / "model", time=_now()), tags=lost)

    def page(self) -> str | None:
        """The address of this stage's curves in MLflow; None until the run is there."""
        return publish.read_said(self.folder.parent).pages.get(self.folder.name) if self._told else None

    def watch(self) -> None:
        """Log the load of CPUs and memory, in percent and MB, under MLflow's names of system metrics, until it is closed."""
        self._sampler = threading.Thread(target=self._sample, name="system-metrics", daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        psutil.cpu_percent()  # the next call measures from here
        for step in itertools.count():
            if self._closed.wait(LOAD_INTERVAL):
                return
            memory, load = psutil.virtual_memory(), {"system/cpu_utilization_percentage": psutil.cpu_percent()}
            load["system/system_memory_usage_percentage"] = memory.percent
            load["system/system_memory_usage_megabytes"] = memory.used / 1e6
            self.metrics(load, step)

    def close(self, status: End = "FINISHED", error: str = "") -> None:
        """End the run, with a tag ``error``.

        The process that runs the pipeline waits until MLflow has everything, but not for a server that is away.
        """
        self._closed.set()
        if self._sampler:
            self._sampler.join()
        if self._told is None:
            return
        for path in pipeline_run.versions() if self._told.stage else []:
            self.artifact(path, shared=True)
        for shared in (False, True) if error else ():
            self._tell(shared=shared, tags={ERROR: error[:500]})
        self._told.own.status, self._told.own.time = status, _now()
        self._save()
        publish.start(self.folder.parent, self._told.execution)
        if self._told.execution == self._process:
            self.address, self.models = publish.wait(self.folder, self._told)

    def _save(self) -> bool:
        """Write run.json; returns whether it is there."""
        assert self._told
        with self._one_warning():
            write_atomically(self.folder / RUN, _json(self._told))
        return (self.folder / RUN).is_file()

    def _tell(self, shared: bool = False, **values: Any) -> None:
        """Add to the log: these values of the stage's run, or with ``shared`` of the pipeline's."""
        if self._told:
            self._add(Run(key=(self._told.shared if shared else self._told.own).key, time=_now(), **values))

    def _add(self, line: Run) -> None:
        """Add a line to the log; after a power loss its last ones may be damaged."""
        with self._one_warning(), (self.folder / LOG).open("ab") as file:
            file.write(f"\n{_json(line)}\n".encode())  # a full disk may have cut off the line above

    def _keep(self, path: Path, place: str) -> bool:
        """Copy a file to ``place`` in this folder, whole or not at all; returns whether it is there."""
        if self._told is None:
            return False
        copy = self.folder / place
        with self._one_warning(f"{path} is not uploaded"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, hidden := copy.with_name(f".{path.name}"))
            if path.name == LOCK.name and self._told.stage:  # DVC adds the stage at work only after its end
                pipeline_run.leave_out(self._told.stage, hidden)
            hidden.replace(copy)
        return copy.is_file()

    @contextlib.contextmanager
    def _one_warning(self, consequence: str = "what cannot be written to disk is not tracked") -> Iterator[None]:
        """Turn an error of the disk into a warning, the first of this tracker."""
        try:
            yield
        except (InputError, OSError) as error:
            if not self._warned:
                log.warning("tracking: %s", redact(f"{error}; {consequence}"))
            self._warned = True


def _now() -> int:
    return round(1000 * time.time())


def _json(part: BaseModel) -> str:
    return json.dumps(redacted(part.model_dump(mode="json", exclude_defaults=True)))


def open_tracker(stage: str | None, params: Params, files: list[Path] | None = None) -> Tracker:
    """The tracker of ``stage``, or with None of a whole execution, which may be opened at its end; see `Tracker`."""
    if Settings.read().tracking == "off":
        return Tracker()
    name, settings = pipeline_run.described(params)
    tracker = Tracker(stage, pipeline_run.filter_keys(params), files, settings, name=name)
    if stage not in (None, "prepare", "report"):  # the others read these sections
        tracker.params(flattened(params.model_dump(include={"base", "network"})))
    if stage in ("evolve", "train"):  # which last
        tracker.watch()
    return tracker


@contextlib.contextmanager
def tracked_execution(params: Params) -> Iterator[list[Tracker]]:
    """Let the stages that the body starts be tracked as one execution, that of this process, whose run ends as the body does.

    The list that is yielded then holds the tracker of the execution, if a stage was tracked or the body has opened one.
    """
    trackers: list[Tracker] = []
    if Settings.read().tracking == "off":
        yield trackers
        return
    tracking_uri()  # one that cannot be used is refused before anything runs
    os.environ[pipeline_run.EXECUTION] = key = process_key(psutil.Process())
    status: End = "KILLED"
    try:
        yield trackers
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        del os.environ[pipeline_run.EXECUTION]
        last = tracking_root() / LAST
        if not trackers and last.is_file() and last.read_text() == key:
            trackers.append(open_tracker(None, params))
        for tracker in trackers:
            tracker.close(status)
