"""Makes MLflow equal to one run folder.

Each run and model has a tag with its key, by which it is found before it is made, and parameters, points, tags and files
replace themselves. So publishing a folder may be killed anywhere, and repeated from its first line.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.runtime.run_files import MODEL, ROWS, UPLOAD, Child, Record, Row, all_records, now_ms, parse_row
from pipelines.tracking import mlflow_client
from pipelines.tracking.experiment_page import RUN_ID, VIEW, run_address, search_links
from pipelines.tracking.mlflow_client import Client, Run, RunData, as_stored, is_refusal, log_batch, reason
from pipelines.tracking.mlflow_models import write_model
from pipelines.tracking.tags import ENTRY, ERROR, LEVEL, NAME, NOTE, PARENT, SEARCH, STAGE

log = logging.getLogger("pipelines.tracking")

CURVES = {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "generation_least_fitness"}
"""Metrics whose points a stage's run and the pipeline's have in a section of charts of their own, before all others."""


class Publication:
    """Makes MLflow equal to one folder, pass by pass. After an error it is unknown what arrived, so another has to begin."""

    def __init__(self, client: Client, uri: str, folder: Path, record: Record):
        self._client, self._folder, self.record = client, folder, record
        self.experiment_id = mlflow_client.find_experiment(client, record.experiment, uri)
        self._runs: dict[str, Run] = {}
        """By their keys, as they were when they were found or made."""
        self._position = 0
        """How much of the rows was read."""
        self._uploaded: dict[Path, int] = {}
        """When each file was changed last."""
        self._written: Record | None = None
        """The run.json that MLflow has."""
        self.models: list[str] = []
        """What became of the model that it registered."""
        self._children = f"{record.work or record.entry}/child/"
        """What the keys of the runs below it begin with."""
        self._find(record.entry, f"{self._children}%", *filter(None, [record.above]))
        above = self._runs.get(record.above)
        self._above: str = above.info.run_id if above else ""
        tags = record.tags | {LEVEL: record.level} | ({PARENT: self._above} if above else {})
        run = self._make(record.entry, record.name, record.start, tags)
        self._own: str = run.info.run_id
        if run.info.status != "RUNNING":  # it goes on
            client.update_run(self._own, status="RUNNING")
        page = "/model-metrics" if record.level == "stage" else ""
        self.page = run_address(uri, self.experiment_id, f"{self._own}{page}")

    def update(self, record: Record, has_ended: bool) -> None:
        """Add what is new since the last pass, and end the run if it ``has_ended``."""
        self.record = record
        self._read_rows()
        if self._written != record:
            with self._leaving_out():
                self._write_record()
            self._written = record
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
        metrics = {f"curves/{name}" if name in CURVES else name: value for name, value in as_stored(row["metrics"]).items()}
        log_batch(self._client, self._own, metrics=metrics, time=row["time"], step=row["step"])
        curves = {name: value for name, value in metrics.items() if name.startswith("curves/")}
        if curves and self._above:
            log_batch(self._client, self._above, metrics=curves, time=row["time"], step=row["step"])

    def _write_record(self) -> None:
        """Write what differs in MLflow from run.json."""
        record, known = self.record, self._runs[self.record.entry].data
        tags = record.tags.copy()
        if NOTE in tags and (search := self._client.get_run(self._own).data.tags.get(SEARCH)):
            tags[NOTE] = f"{search_links(self.experiment_id, search)}\n\n{tags[NOTE]}"
        self._log_new(self._own, known, record.params, tags, as_stored(record.metrics))
        if ERROR in known.tags and ERROR not in tags:  # of an earlier attempt
            self._client.delete_tag(self._own, ERROR)
            del known.tags[ERROR]
        for context, dataset in record.datasets.items():
            for run_id in filter(None, (self._own, self._above if record.level == "stage" else "")):
                mlflow_client.log_dataset(self._client, run_id, context, dataset)
        for name, view in record.views.items():
            self._client.set_experiment_tag(self.experiment_id, f"{VIEW}{name}-{self._own}", view.replace(RUN_ID, self._own))
        for run_id in filter(None, (self._own, self._above) if record.views else ()):
            self._link_to_search(run_id)
        for label, mark in (record.marks or {}).items():
            if child := self._runs.get(f"{self._children}{label}"):
                self._log_new(child.info.run_id, child.data, {}, mark.tags, as_stored(mark.metrics))
        if record.model and (self._written is None or self._written.model is None):
            key = f"{record.entry}/{record.model.digest}"
            where = self._own, self._above or self._own
            if said := write_model(self._client, self.experiment_id, *where, record.model, self._folder / MODEL, key):
                print(f"MLflow: {said}", flush=True)
                self.models.append(said)

    def _log_new(
        self, run_id: str, known: RunData, params: Mapping[str, str], tags: Mapping[str, str], metrics: Mapping[str, float]
    ) -> None:
        """Log what differs from ``known``, the data of the run, which is brought up to date."""
        params = {name: value for name, value in params.items() if name not in known.params}
        tags = {name: value for name, value in tags.items() if known.tags.get(name) != value}
        metrics = {name: value for name, value in metrics.items() if known.metrics.get(name) != value}
        log_batch(self._client, run_id, params, tags, metrics, self.record.end or now_ms())
        known.params.update(params), known.tags.update(tags), known.metrics.update(metrics)

    def _find(self, *patterns: str) -> None:
        """Note the runs with such keys, and delete doubled ones, which a server made too late to answer the request."""
        for pattern in patterns:
            runs = mlflow_client.search_runs(self._client, self.experiment_id, f"tags.`{ENTRY}` LIKE '{pattern}'")
            for run in sorted(runs, key=lambda run: run.info.status not in ("FINISHED", "FAILED")):
                if self._runs.setdefault(run.data.tags[ENTRY], run).info.run_id != run.info.run_id:
                    self._client.delete_run(run.info.run_id)

    def _make(self, entry: str, name: str, start: int, tags: dict[str, str]) -> Run:
        """The run with this key, which is made if it is not there."""
        if entry not in self._runs:
            self._runs[entry] = self._client.create_run(self.experiment_id, start, tags | {ENTRY: entry}, name)
        return self._runs[entry]

    def _link_to_search(self, run_id: str) -> None:
        """Begin the description of a run with links to the candidates of this one, in place of those of another search."""
        links, note = search_links(self.experiment_id, self._own), self._client.get_run(run_id).data.tags.get(NOTE, "")
        result = note.partition("\n\n")[2] if note.startswith(links[:10]) else note
        log_batch(self._client, run_id, tags={SEARCH: self._own, NOTE: f"{links}\n\n{result}" if result else links})

    def _write_child(self, child: Child) -> None:
        """Write a candidate or cell; a complete one of an interrupted or repeated run moves below this run."""
        client, tags = self._client, {LEVEL: child.level, PARENT: self._own}
        if NAME in self.record.tags:
            tags[NAME] = self.record.tags[NAME]
        run = self._make(f"{self._children}{child.child}", child.name, child.start, tags)
        run_id, known = run.info.run_id, run.data.tags
        log_batch(client, run_id, tags=dict(tags.items() - known.items()))
        known.update(tags)
        if run.info.status in ("FINISHED", "FAILED"):
            return
        log_batch(client, run_id, child.params, child.tags, as_stored(child.metrics), child.time)
        for file, text in child.texts.items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id, child.status, child.time)

    def _end(self) -> None:
        record, client = self.record, self._client
        status, end = record.status or "KILLED", record.end if record.status else self._last_sign()
        self._find(record.entry, f"{self._children}%")
        if record.marks is not None:
            for entry, run in self._runs.items():
                label = entry.removeprefix(self._children)  # of those below it that only an interrupted attempt had
                if label != entry and label not in record.marks and run.data.tags[PARENT] == self._own:
                    client.delete_run(run.info.run_id)
        client.set_terminated(self._own, status, max(end, record.start))
        if record.level == "stage" and self._above:
            below = mlflow_client.search_runs(client, self.experiment_id, f"tags.`{PARENT}` = '{self._above}'")
            for run in below if status == "FINISHED" else ():  # it has all of its interrupted attempts
                same = run.data.tags.get(STAGE) == record.stage and run.info.run_id != self._own
                if same and run.info.status in ("FAILED", "KILLED"):
                    client.delete_run(run.info.run_id)
            if record.status is None:
                client.set_tag(self._above, f"stage.{record.stage}", "killed")
        for path, changed in self._uploaded.items() if status == "FINISHED" else ():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime_ns == changed:  # no process has replaced it since
                    path.unlink()

    def _last_sign(self) -> int:
        """When the killed run, or one below it, was written to last, in ms."""
        entry = self.record.entry
        folders = [self._folder, *(f for f, r in all_records(self._folder.parent).items() if r.above == entry)]
        files = [path for folder in folders for path in (folder / ROWS, folder / "run.json") if path.is_file()]
        return round(1000 * max(path.stat().st_mtime for path in files))
