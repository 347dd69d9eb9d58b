"""The files of a run folder (`pipelines.runtime.run_folder`): what they hold, and how they are read and written."""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from gee_core.storage.atomic_files import flush, flush_folder, make_folder, sha256, write_atomically, writing
from pipelines.runtime.process_tree import is_gone
from pipelines.runtime.redact import redact_values

log = logging.getLogger(__name__)

RUN, ROWS, SENT, HELD = "run.json", "rows.jsonl", "mlflow.json", "lock"
"""The files of a folder."""
WORK, UPLOAD, MODEL = Path("files/work"), Path("files/upload"), Path("files/model")
"""Its subfolders."""

End = Literal["FINISHED", "FAILED", "KILLED"]
Level = Literal["pipeline", "stage", "study", "cell"]
JsonObject = dict[str, Any]
Row = JsonObject


class Mark(BaseModel):
    """What is known of a child only once all are there, such as its rank."""

    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}


class Child(BaseModel):
    """A finished run below another one: a candidate, or a cell of a study. Times are in ms."""

    child: str
    """Its label: rows of the same label are the same run."""
    level: Literal["candidate", "rescore", "cell"]
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    """They may be NaN or infinite."""
    texts: dict[str, str] = {}
    """Contents of its artifacts, by the names of the files."""
    start: int
    time: int
    """When it ended."""
    status: End


class ExportedModel(BaseModel):
    """A model to log, and to register under its name if ``register`` says so. Its files are in `MODEL`."""

    name: str
    is_registered: bool
    dataset: str
    digest: str
    """Of the prepared images: only accuracies on the same images are compared."""
    metrics: dict[str, float]
    """Measured on the test images."""
    params: dict[str, str]
    time: int
    """When it was exported, in ms."""
    base: str | None = None
    """What it is an update of."""


class Record(BaseModel):
    """run.json. Times are in ms."""

    level: Level
    name: str = ""
    """What the run is called."""
    stage: str = ""
    entry: str = ""
    """Identifies its row in MLflow. A run that goes on after an interruption keeps it."""
    above: str = ""
    """The ``entry`` of the run that it lies below."""
    settings: str = ""
    """Of an execution: a digest of its settings. An interrupted one goes on where these are the same."""
    work: str = ""
    """What its children are children of, however often it is repeated: its key, and what that leaves out."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    """They may be NaN or infinite."""
    datasets: dict[str, dict[str, str]] = {}
    """By context, `training` or `testing`: the arguments of MLflow's Dataset."""
    views: dict[str, str] = {}
    """Of its candidates, as MLflow's page shows them."""
    marks: dict[str, Mark] | None = None
    """By the label of each child that belongs to it in the end; None as long as that is unknown."""
    model: ExportedModel | None = None
    store: str = ""
    """The address of the MLflow that gets the run; empty if none does."""
    experiment: str = ""
    process: str = ""
    """The `process_key` of the process that writes the folder."""
    execution: str = ""
    """That of the process that runs the pipeline or the study."""
    start: int = 0
    end: int = 0
    status: End | None = None
    """None while it is at work."""
    result: JsonObject = {}
    """The answer of `once`."""
    outputs: list[str] = []
    """Paths of the files that `once` found in the folder."""
    md5: str = ""
    """Of the last file that the stage wrote, as dvc.lock records it."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is added to the folder any more."""
        return self.status is not None or is_gone(self.process)


class Sent(BaseModel):
    """mlflow.json."""

    digest: str = ""
    """Of the run.json of which MLflow has everything, if the run had ended."""
    page: str = ""
    """The address of its page."""
    models: list[str] = []
    """What became of its models."""
    hindrance: str = ""
    """Why MLflow cannot have the rest now."""


def now_ms() -> int:
    """The time in ms since 1970."""
    return round(1000 * time.time())


def as_texts(values: Mapping[str, object]) -> dict[str, str]:
    """``values`` as strings, as MLflow stores parameters and tags."""
    return {key: str(value) for key, value in values.items()}


def append_row(folder: Path, row: Row) -> None:
    """Add ``row`` to the rows of ``folder``, which is made if it is missing. The line survives a power loss.

    Raises:
        InputError: the disk is full, or the file is not writable; the earlier lines are unchanged.
    """
    path = folder / ROWS
    with writing(path):
        make_folder(folder)
        is_new = not path.exists()
        with path.open("ab+") as file:
            is_cut_off = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(b"\n" * is_cut_off + json.dumps(redact_values(row)).encode() + b"\n")
            flush(file)
        if is_new:
            flush_folder(folder)


def read_rows(folder: Path) -> list[Row]:
    """The intact rows of ``folder``, in order; a warning counts the damaged lines."""
    path = folder / ROWS
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.is_file() else []
    whole = [row for line in lines if (row := parse_row(line)) is not None]
    if damaged := len(lines) - len(whole):
        log.warning("%s: %d of %d lines damaged; what they recorded is recomputed", path, damaged, len(lines))
    return whole


def parse_row(line: bytes) -> Row | None:
    """The row in ``line``, or None if the line is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def read_record(folder: Path) -> Record | None:
    """The run.json of ``folder``; None where it is damaged, or the folder is gone."""
    with contextlib.suppress(OSError, ValidationError):
        return Record.model_validate_json((folder / RUN).read_bytes())
    return None


def write_record(folder: Path, record: Record) -> None:
    """Write ``record`` as the run.json of ``folder``."""
    values = redact_values(record.model_dump(exclude_defaults=True))
    write_atomically(folder / RUN, json.dumps(values, indent=1))


def read_sent(folder: Path) -> Sent:
    """The mlflow.json of ``folder``."""
    with contextlib.suppress(OSError, ValidationError):
        return Sent.model_validate_json((folder / SENT).read_bytes())
    return Sent()


def record_digest(folder: Path) -> str:
    """A hash of the run.json of ``folder``; empty where there is none."""
    with contextlib.suppress(OSError):
        return sha256(folder / RUN)[:16]
    return ""


def is_waiting(folder: Path, record: Record) -> bool:
    """Whether MLflow has to get something of ``folder`` yet."""
    return bool(record.store) and read_sent(folder).digest != record_digest(folder)


def all_records(root: Path) -> dict[Path, Record]:
    """Every folder below ``root`` of a run for MLflow, with its run.json: executions and studies first, the oldest first.

    Cells and steps of studies, of which there may be thousands, have no run of their own there.
    """
    folders = [path.parent for path in root.glob(f"[!.]*/{RUN}") if not path.parent.name.startswith(("cell-", "step-"))]
    known = {folder: record for folder in folders if (record := read_record(folder))}
    return dict(sorted(known.items(), key=lambda pair: (bool(pair[1].above), pair[1].start)))


def waiting_folders(root: Path) -> dict[Path, Record]:
    """Those of `all_records` that MLflow does not have."""
    return {folder: record for folder, record in all_records(root).items() if is_waiting(folder, record)}


def delete_folder(folder: Path) -> None:
    """Delete ``folder`` and everything in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
