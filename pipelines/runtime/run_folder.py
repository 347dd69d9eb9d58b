"""A run on disk: one folder in .scratch/runs, which its process writes and everything else only reads.

run.json      who it is, its settings, tags, numbers and status (`Record`); always replaced as a whole
rows.jsonl    what it measures while it is at work; only added to, and the only journal (`append_row`, `read_rows`)
files/work    states from which unfinished work resumes
files/upload  files that MLflow shows; their folders below it are those of the artifacts
files/model   the files of an exported model
mlflow.json   what the publisher has done with it (`Sent`); nobody else writes it
lock          locked by the process that is at work in the folder

There are two kinds of key. The run key is a hash of all that a result depends on: settings, inputs, and the code that dvc.yaml
names. It names the folders of stages that resume, of cells and of what cells share. The key of an execution is the process that
runs the pipeline. It names the folders of executions and of the other stages. Folders are called KIND-KEY: `train-…` of a
stage, `step-…` and `cell-…` of studies. Only folders of the same kind make way for each other.

A row is a point of curves, ``{"step": 3, "time": ms, "metrics": {...}, "entry": ...}``, or a run below this one: a candidate or
a cell. Such a row is a `Child` with its label under ``child``, and whatever else its writer needs to resume. A search resumes
from its rows, and its tables are written from them. A line that is damaged is left out, and what it recorded is recomputed.

`once` is all that a cell of a study needs: it computes in a folder unless the folder has the result. A stage is the same in
steps, because it has to write its results for DVC too: `RunFolder.at_work_in` the folder of the key, compute, `finish`. The
folder of a finished run is kept until the stage next runs and MLflow has it: if `dvc` is killed before dvc.lock has the result,
it repeats the stage from there. Copies of the project in which DVC runs experiments use the original's .scratch.
"""

import contextlib
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import psutil
from pydantic import BaseModel

from gee_core.storage.atomic_files import sha256, write_atomically, writing
from gee_core.storage.json_object import json_digest
from pipelines.project.paths import LOCK, SCRATCH, original_project
from pipelines.project.safe_yaml import parse_yaml
from pipelines.runtime.process_tree import file_lock, process_key
from pipelines.runtime.progress import console
from pipelines.runtime.run_files import (
    HELD,
    MODEL,
    ROWS,
    RUN,
    SENT,
    UPLOAD,
    WORK,
    Child,
    End,
    ExportedModel,
    JsonObject,
    Record,
    Row,
    append_row,
    as_texts,
    delete_folder,
    is_waiting,
    now_ms,
    read_record,
    read_rows,
    write_record,
)

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder with the code that is running, and its dvc.yaml."""


def runs_root() -> Path:
    """The folder of all runs of the project: this one, or in a copy for a DVC experiment that of the original."""
    here = Path.cwd()
    original = original_project(here)
    return (Path() if original == here else original) / SCRATCH / "runs"


def run_key(stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], extra: str = "") -> str:
    """A hash of ``sections`` of params.yaml, the files ``inputs``, ``extra`` and the code that dvc.yaml lists for ``stage``."""
    digest = hashlib.sha256(extra.encode())
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    for path in [*inputs, *code_files(stage)]:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:16]


def folder_of(stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], extra: str = "") -> Path:
    """The folder of the run with this `run_key`."""
    return runs_root() / f"{stage}-{run_key(stage, sections, inputs, extra)}"


def code_files(stage: str) -> list[Path]:
    """The Python files among the `deps` of ``stage`` in dvc.yaml."""
    deps = _deps((CHECKOUT / "dvc.yaml").read_text(encoding="utf-8"))[stage]
    listed = [CHECKOUT / dep for dep in deps if dep.startswith(("gee_core/", "pipelines/"))]
    return [file for path in listed for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


@functools.cache
def _deps(text: str) -> dict[str, list[str]]:
    """Those of the stages of a dvc.yaml with this ``text``, whose reading takes a tenth of a second."""
    return {name: stage["deps"] for name, stage in parse_yaml(text)["stages"].items()}


def delete_finished(kind: str, keep: Path) -> None:
    """Delete the folders whose names begin with ``kind``, such as `train`, of finished runs that MLflow has, but ``keep``."""
    for folder in set(keep.parent.glob(f"{kind}-*")) - {keep}:
        record = read_record(folder)
        if record and record.status == "FINISHED" and not is_waiting(folder, record):
            with file_lock(folder / HELD, wait=False) as free:
                if free:
                    delete_folder(folder)


def once(folder: Path, compute: Callable[[], JsonObject]) -> JsonObject:
    """The JSON object that ``compute`` returns, which writes its files into ``folder`` and resumes from those in `WORK`.

    It is called again where a file is missing. Another process that wants the same waits for the first one.
    """
    with file_lock(folder / HELD):
        record = read_record(folder)
        if record is None or record.status != "FINISHED" or not all((folder / name).is_file() for name in record.outputs):
            start, result = now_ms(), compute()
            delete_folder(folder / WORK)
            own = (HELD, RUN, ROWS, SENT)
            files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
            outputs = [path.as_posix() for path in files if path.as_posix() not in own]
            record = Record(level="cell", start=start, end=now_ms(), status="FINISHED", result=result, outputs=outputs)
            write_record(folder, record)
        return record.result


class RunFolder:
    """The folder of a run at work, which its process writes. No error of MLflow reaches it.

    ``path`` is where the run lies until it is `at_work_in` another folder. Without tracking only such a folder is written, for
    the run to be resumed.
    """

    def __init__(self, path: Path, record: Record):
        self.path, self.record = path, record
        self.is_kept = bool(record.store)
        """Whether the run is written to disk."""
        self._has_left = False
        self._known: set[str] | None = None
        """Labels of the children that are there, and points."""

    def save(self) -> None:
        """Write run.json, unless another process is at work in the folder by now."""
        now = read_record(self.path) if self._has_left else None
        if self.is_kept and (now is None or now.process == self.record.process):
            write_record(self.path, self.record)

    def note(
        self,
        params: Mapping[str, object] = {},
        metrics: Mapping[str, float | None] = {},
        tags: Mapping[str, object] = {},
        datasets: Mapping[str, dict[str, str]] = {},
    ) -> None:
        """Note parameters, each key once per run, numbers of the whole run, tags, and by their context images as its input."""
        record = self.record
        record.params = as_texts(params) | record.params
        record.metrics |= {name: value for name, value in metrics.items() if value is not None}
        record.tags |= as_texts(tags)
        record.datasets |= datasets
        self.save()

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of these curves, unless an interrupted attempt has."""
        if values:
            row = {"step": step, "time": now_ms(), "metrics": dict(values), "entry": self.record.entry}
            self._add(_point_key(row), row)

    def child(self, child: Child) -> None:
        """Add a run below this one, unless it is there."""
        self._add(child.child, child.model_dump())

    def _add(self, key: str, row: Row) -> None:
        if not self.is_kept:
            return
        if self._known is None:
            self._known = {row["child"] if "child" in row else _point_key(row) for row in read_rows(self.path)}
        if key not in self._known:
            append_row(self.path, row)
            self._known.add(key)

    def text(self, name: str, content: str | bytes) -> None:
        """Let MLflow show a file with this ``content``."""
        if self.is_kept:
            write_atomically(self.path / UPLOAD / name, content)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Let MLflow show a file as it is now, in ``folder``."""
        self._keep(path, UPLOAD / folder)

    def model(self, folder: Path, names: Iterable[str], model: ExportedModel) -> None:
        """Log an exported model, whose files are these of ``folder``."""
        for name in names:
            self._keep(folder / name, MODEL)
        self.record.model = model
        self.save()

    def _keep(self, path: Path, place: Path) -> None:
        if not self.is_kept:
            return
        if not path.is_file():
            log.warning("%s is missing, so that MLflow does not get it", path)
            return
        copy = self.path / place / path.name
        with writing(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, hidden := copy.with_name(f".{path.name}"))
            hidden.replace(copy)

    @contextlib.contextmanager
    def at_work_in(self, folder: Path, work: str = "") -> Iterator[None]:
        """Be at work in ``folder`` inside: it becomes the folder of this run, which goes on with what it finds there.

        It waits for a process that is at work there, such as an experiment with the same stage. Other finished runs of the
        stage are deleted first. If dvc.lock has the result of this run, DVC wants it recomputed, and the folder is emptied.
        ``work`` is the key and what that leaves out: a run with another one begins with what the last one left.
        """
        own = self.record
        own.work, own.entry = work or folder.name, f"{own.above}/{folder.name}"
        with file_lock(folder / HELD, wait=False) as free:
            if not free:
                console.print(f"{folder}: another process is at work there; waiting for it", soft_wrap=True)
        with file_lock(folder / HELD):
            delete_finished(folder.name.rpartition("-")[0], folder)
            last = read_record(folder)
            if last and last.status == "FINISHED" and last.entry != own.entry and is_waiting(folder, last):
                _set_aside(folder, last)
            if last and last.entry == own.entry:
                own.start = last.start
            if last and last.work == own.work and last.md5 and LOCK.is_file() and last.md5 in LOCK.read_text(encoding="utf-8"):
                for path in set(folder.iterdir()) - {folder / HELD}:
                    delete_folder(path) if path.is_dir() else path.unlink()
            if self.path != folder:
                delete_folder(self.path)  # where an attempt failed before it came here
            self.path, self.is_kept, self._known = folder, True, None
            self.save()
            try:
                yield
            finally:
                self._has_left = True

    def finish(self, result: Path) -> None:
        """Note that the results are there, of which ``result`` is the last file."""
        self.record.md5 = hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest()
        self.end("FINISHED")

    def end(self, status: End) -> None:
        """Note how the run has ended."""
        if self.record.status != status:
            self.record.status, self.record.end = status, now_ms()
            self.save()


def _point_key(row: Row) -> str:
    """Identifies a point of a run."""
    return json.dumps([row.get(part) for part in ("entry", "step", "metrics")], sort_keys=True)


def _set_aside(folder: Path, record: Record) -> None:
    """Copy what MLflow has to get of a finished run to a folder of its own, before another run changes ``folder``."""
    aside = folder.with_name(f"{folder.name}-{json_digest({'entry': record.entry})}")
    if not aside.exists():
        hidden = folder.with_name(f".{aside.name}")
        delete_folder(hidden)
        shutil.copytree(folder, hidden, ignore=shutil.ignore_patterns(WORK.name, HELD))
        hidden.rename(aside)


def own_process() -> str:
    """The `process_key` of this process."""
    return process_key(psutil.Process())
