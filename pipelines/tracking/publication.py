"""Makes MLflow equal to one run folder.

Each run and model has a tag with its key, by which it is found before it is made, and parameters, points, tags and files
replace themselves. So publishing a folder may be killed anywhere, and repeated from its first line.
"""

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.runtime.run_files import MODEL, ROWS, UPLOAD, Child, Mark, Record, Row, all_records, now_ms, parse_row
from pipelines.tracking import mlflow_client
from pipelines.tracking.experiment_page import RUN_ID, VIEW, run_address, search_links
from pipelines.tracking.mlflow_client import Client, as_stored, is_refusal, log_batch, reason
from pipelines.tracking.mlflow_models import write_model
from pipelines.tracking.tags import ENTRY, ERROR, LEVEL, NAME, NOTE, PARENT, SEARCH, STAGE, WORK

log = logging.getLogger("pipelines.tracking")

CURVES = {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "generation_least_fitness"}
"""Metrics of stages whose points the pipeline's run has too, in a section of charts of their own."""


class Publication:
    """Makes MLflow equal to one folder, pass by pass. After an error it is unknown what arrived, so another has to begin."""

    def __init__(self, client: Client, uri: str, folder: Path, record: Record):
        self._client, self._folder, self.record = client, folder, record
        self.experiment_id = mlflow_client.find_experiment(client, record.experiment, uri)
        self._runs: dict[str, Any] = {}
        """By their keys, as they were when they were found or made."""
        self._position = 0
        """How much of the rows was read."""
        self._uploaded: dict[Path, int] = {}
        """When each file was changed last."""
        self._lost: list[str] = []
        """Names of numbers that are not finite."""
        self._labels: set[str] = set()
        """Of the children in the rows."""
        self._written: tuple[Record, int] | None = None
        """The run.json that MLflow has, and how many numbers were not finite then."""
        self.models: list[str] = []
        """What became of the model that it registered."""
        self._find(record.entry)
        if record.above:
            self._find(record.above)
        self._above = self._id_of(record.above)
        tags = (
            {LEVEL: record.level}
            | ({PARENT: self._above} if self._above else {})
            | ({WORK: record.work} if record.work else {})
        )
        self._own = self._make(record.entry, record.name, record.start, record.tags | tags)
        self._is_running = self._runs[record.entry].info.status == "RUNNING"
        page = "/model-metrics" if record.level == "stage" else ""
        self.page = run_address(uri, self.experiment_id, f"{self._own}{page}")

    def update(self, record: Record, has_ended: bool) -> None:
        """Add what is new since the last pass, and end the run if it ``has_ended``."""
        self.record = record
        if not self._is_running and not has_ended:
            self._client.update_run(self._own, status="RUNNING")
            self._is_running = True
        self._read_rows()
        if self._written != (record, len(self._lost)):
            with self._leaving_out():
                self._write_record()
            self._written = record, len(self._lost)
        root = self._folder / UPLOAD
        for path in sorted(path for path in root.rglob("[!.]*") if path.is_file()):
            if self._uploaded.get(path) != (changed := path.stat().st_mtime_ns):
                place = path.parent.relative_to(root)
                with self._leaving_out():
                    self._client.log_artifact(self._own, str(path), None if place == Path() else place.as_posix())
                self._uploaded[path] = changed
        if has_ended:
            self._end()

    @contextlib.contextmanager
    def _leaving_out(self) -> Iterator[None]:
        """Turn what the store refuses for good into a warning."""
        try:
            yield
        except Exception as error:
            if not is_refusal(error):
                raise
            log.warning("MLflow refuses a part of %s, which is left out: %s", self._folder.name, reason(error))

    def _read_rows(self) -> None:
        new = b""
        with contextlib.suppress(FileNotFoundError), (self._folder / ROWS).open("rb") as file:
            file.seek(self._position)
            new = file.read()
        for line in new.splitlines(keepends=True):
            if not line.endswith(b"\n"):  # not yet whole
                break
            if row := parse_row(line):
                with self._leaving_out():
                    self._write_row(row)
            self._position += len(line)

    def _write_row(self, row: Row) -> None:
        if "child" in row:
            self._write_child(Child.model_validate(row))
            return
        if row.get("entry") != self.record.entry:  # of an earlier run in this folder
            return
        metrics, lost = split_finite(row["metrics"])
        self._lost += lost
        log_batch(self._client, self._own, metrics=metrics, time=row["time"], step=row["step"])
        curves = {f"curves/{name}": value for name, value in metrics.items() if name in CURVES}
        if curves and self._above:
            log_batch(self._client, self._above, metrics=curves, time=row["time"], step=row["step"])

    def _write_record(self) -> None:
        """Write what differs in MLflow from run.json."""
        record, known = self.record, self._runs[self.record.entry].data
        metrics, lost = split_finite(record.metrics)
        of_model = split_finite(record.model.metrics)[1] if record.model else []
        names = list(dict.fromkeys([*lost, *of_model, *self._lost]))
        tags = record.tags | ({"not_finite": ", ".join(names)} if names else {})
        if NOTE in tags and (search := self._client.get_run(self._own).data.tags.get(SEARCH)):
            tags[NOTE] = f"{search_links(self.experiment_id, search)}\n\n{tags[NOTE]}"
        self._log_new(self._own, known, record.params, tags, metrics)
        if ERROR in known.tags and ERROR not in tags:  # of an earlier attempt
            self._client.delete_tag(self._own, ERROR)
            del known.tags[ERROR]
        for context, dataset in record.datasets.items():
            for run_id in filter(None, (self._own, self._above if record.level == "stage" else "")):
                mlflow_client.log_dataset(self._client, run_id, context, dataset)
        if record.views:
            self._write_views(record.views)
        for label, mark in (record.marks or {}).items():
            if child := self._runs.get(f"{self._children}{label}"):
                self._log_new(child.info.run_id, child.data, {}, mark.tags, split_finite(mark.metrics)[0])
        if record.model and (self._written is None or self._written[0].model is None):
            key = f"{record.entry}/{record.model.digest}"
            where = self._own, self._above or self._own
            if said := write_model(self._client, self.experiment_id, *where, record.model, self._folder / MODEL, key):
                print(f"MLflow: {said}", flush=True)
                self.models.append(said)

    def _log_new(
        self, run_id: str, known: Any, params: Mapping[str, str], tags: Mapping[str, str], metrics: Mapping[str, float]
    ) -> None:
        """Log what differs from ``known``, the data of the run, which is brought up to date."""
        params = {name: value for name, value in params.items() if name not in known.params}
        tags = {name: value for name, value in tags.items() if known.tags.get(name) != value}
        metrics = {name: value for name, value in metrics.items() if known.metrics.get(name) != value}
        log_batch(self._client, run_id, params, tags, metrics, self.record.end or now_ms())
        known.params.update(params), known.tags.update(tags), known.metrics.update(metrics)

    def delete_uploaded(self) -> None:
        """Delete the copies of files that MLflow has, but those that a process has replaced since."""
        for path, changed in self._uploaded.items():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime_ns == changed:
                    path.unlink()

    def _find(self, pattern: str) -> None:
        """Note the runs with such keys, and delete doubled ones, which a server made too late to answer the request."""
        runs = mlflow_client.search_runs(self._client, self.experiment_id, f"tags.`{ENTRY}` LIKE '{pattern}'")
        for run in sorted(runs, key=lambda run: run.info.status not in ("FINISHED", "FAILED")):
            if self._runs.setdefault(run.data.tags[ENTRY], run).info.run_id != run.info.run_id:
                self._client.delete_run(run.info.run_id)

    def _id_of(self, entry: str) -> str:
        """The id of the run with this key; empty if there is none."""
        return str(self._runs[entry].info.run_id) if entry in self._runs else ""

    def _make(self, entry: str, name: str, start: int, tags: Mapping[str, str]) -> str:
        """The id of the run with this key, which is made if it is not there."""
        if entry not in self._runs:
            self._runs[entry] = self._client.create_run(
                self.experiment_id, start_time=start, tags=dict(tags) | {ENTRY: entry}, run_name=name
            )
        return self._id_of(entry)

    def _write_views(self, views: dict[str, str]) -> None:
        for name, view in views.items():
            text = view.replace(RUN_ID, self._own)
            self._client.set_experiment_tag(self.experiment_id, f"{VIEW}{name}-{self._own}", text)
        links = search_links(self.experiment_id, self._own)
        for run_id in filter(None, (self._own, self._above)):
            note = self._client.get_run(run_id).data.tags.get(NOTE, "")
            result = note.partition("\n\n")[2] if note.startswith(links[:10]) else note  # below the links to a search
            log_batch(self._client, run_id, tags={SEARCH: self._own, NOTE: f"{links}\n\n{result}" if result else links})

    @property
    def _children(self) -> str:
        """What the keys of its children begin with."""
        return f"{self.record.work or self.record.entry}/child/"

    def _write_child(self, child: Child) -> None:
        """Write a candidate or cell; a complete one of an interrupted or repeated run moves below this run."""
        if not self._labels:
            self._find(f"{self._children}%")
        self._labels.add(child.child)
        client, entry = self._client, f"{self._children}{child.child}"
        known = self._runs.get(entry)
        tags = {LEVEL: child.level, PARENT: self._own}
        if NAME in self.record.tags:
            tags[NAME] = self.record.tags[NAME]
        run_id = self._make(entry, child.name, child.start, tags)
        if known is not None:
            log_batch(client, run_id, tags=dict(tags.items() - known.data.tags.items()))
            if known.info.status in ("FINISHED", "FAILED"):
                return
        metrics, lost = split_finite(child.metrics)
        not_finite = {"not_finite": ", ".join(lost)} if lost else {}
        log_batch(client, run_id, child.params, child.tags | not_finite, metrics, child.time)
        for file, text in child.texts.items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id, child.status, child.time)

    def _end(self) -> None:
        record, client = self.record, self._client
        status, end = record.status or "KILLED", record.end if record.status else self._last_sign()
        self._find(record.entry)
        if self._labels:
            self._find(f"{self._children}%")
        if record.marks is not None:
            self._delete_others(record.marks)
        client.set_terminated(self._own, status, max(end, record.start))
        if record.level == "stage" and self._above:
            below = mlflow_client.search_runs(client, self.experiment_id, f"tags.`{PARENT}` = '{self._above}'")
            for run in below if status == "FINISHED" else ():  # it has all of its interrupted attempts
                same = run.data.tags.get(STAGE) == record.stage and run.info.run_id != self._own
                if same and run.info.status in ("FAILED", "KILLED"):
                    client.delete_run(run.info.run_id)
            if record.status is None:
                client.set_tag(self._above, f"stage.{record.stage}", "killed")

    def _delete_others(self, marks: Mapping[str, Mark]) -> None:
        """Delete the children below this run that an attempt has left which the run does not have in the end."""
        for entry, run in list(self._runs.items()):
            label = entry.removeprefix(self._children)
            is_own = label in self._labels or run.data.tags.get(PARENT) == self._own
            if label != entry and label not in marks and is_own:
                self._client.delete_run(self._runs.pop(entry).info.run_id)

    def _last_sign(self) -> int:
        """When the killed run, or one below it, was written to last, in ms."""
        entry = self.record.entry
        folders = [self._folder, *(f for f, r in all_records(self._folder.parent).items() if r.above == entry)]
        files = [path for folder in folders for path in (folder / ROWS, folder / "run.json") if path.is_file()]
        return round(1000 * max(path.stat().st_mtime for path in files))


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """The finite metrics as MLflow stores them, and the names of the others: the store would keep NaN as 0."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    return as_stored(finite), [name for name in metrics if name not in finite]
