"""What a stage, an execution or a study leaves on disk for MLflow: a folder each in .scratch/tracking.

run.json          who it is, and how it ended; always written whole
log.jsonl         all that is told of its run and of those below it, a line each, which are only added
own/, shared/     files for its run, and for the run of its execution
model/            the files of an exported model

A folder is deleted once its run has ended in MLflow.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from pipelines.project.paths import SCRATCH, find_project, original_project
from pipelines.runtime.process_tree import is_gone

FILES = ("network.onnx", "meta.json", "README.md", "example.png")
"""The files of an exported model."""

OTHERS = ("network.nir", "genes.safetensors")
"""Further files of a model, if NIR can express the network, and if `export.genes` names a format."""

RUN, LOG = "run.json", "log.jsonl"

End = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class ExportedModel:
    """A model to log, and to register under its name if ``register`` says so; ``folder`` holds FILES, and perhaps OTHERS."""

    folder: Path
    name: str
    register: bool
    dataset: str
    digest: str
    """Of the prepared images: only metrics of the same images are compared."""
    metrics: dict[str, float]
    """Measured on the test images."""
    params: dict[str, object]
    time: int = 0
    """When it was tracked, in ms."""

    def files(self) -> dict[str, Path]:
        """The paths of FILES, and of those of OTHERS that are there, by their names."""
        others = [name for name in OTHERS if (self.folder / name).is_file()]
        return {name: self.folder / name for name in (*FILES, *others)}


class Run(BaseModel):
    """A run of MLflow, which is found by its ``key``, or a line of log.jsonl: what is added to it; times are in ms."""

    key: str
    level: str = ""
    """Of a whole run that is made unless it is there; empty where something is added to a run."""
    name: str = ""
    start: int = 0
    time: int = 0
    """When it ended, or when what is added was measured."""
    status: End | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    step: int = 0
    texts: dict[str, str] = {}
    """Contents of its artifacts, by the names of the files."""
    artifact: str = ""
    """Path of a file in the folder; what lies between its first part and its name is its folder in MLflow."""
    dataset: tuple[str, dict[str, str]] | None = None
    """Its context, and the arguments of MLflow's Dataset."""
    views: dict[str, str] = {}
    """Of the candidates below it, for people to follow a link to."""
    model: ExportedModel | None = None


class Told(BaseModel):
    """run.json."""

    stage: str
    """Empty for an execution or a study."""
    own: Run
    shared: Run
    """That of its execution or study; the same as ``own`` where this folder is that of the execution or study."""
    store: str
    experiment: str
    process: str
    """The `process_key` of the process that writes this folder, and of the process that runs the pipeline."""
    execution: str
    in_flow: bool
    """Whether that process ends the run of its execution."""

    def has_ended(self) -> bool:
        """Whether nothing is added to the folder any more."""
        return self.own.status is not None or is_gone(self.process)


def tracking_root() -> Path:
    """Where this project's folders lie, also when called in one of DVC's temporary copies."""
    return original_project(find_project()) / SCRATCH / "tracking"


def read_told(folder: Path) -> Told | None:
    """The run.json of ``folder``; None where it is damaged, or the folder is gone."""
    with contextlib.suppress(OSError, ValidationError):
        return Told.model_validate_json((folder / RUN).read_bytes())
    return None


def all_told(root: Path) -> dict[Path, Told]:
    """Every folder below ``root`` with its run.json, the oldest first."""
    known = {path.parent: read_told(path.parent) for path in root.glob(f"2*/{RUN}")}
    return dict(sorted(((path, told) for path, told in known.items() if told), key=lambda pair: pair[1].own.start))


def ended(root: Path) -> list[Path]:
    """The folders of runs that have ended, but not in MLflow."""
    return [folder for folder, told in all_told(root).items() if told.has_ended()]


def last_sign(folder: Path, told: Told) -> int:
    """When the run of ``folder`` ended, or the last sign of a killed one, in ms."""
    return told.own.time if told.own.status else round(1000 * max(path.stat().st_mtime for path in folder.iterdir()))


def flattened(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of nested dicts by their keys, joined by dots."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def texts(values: Mapping[str, object]) -> dict[str, str]:
    """``values`` as strings, as MLflow stores parameters and tags."""
    return {key: str(value) for key, value in values.items()}


def finite_metrics(metrics: Mapping[str, float | None]) -> tuple[dict[str, float], dict[str, str]]:
    """The finite metrics, and a tag that names the others: the store would keep NaN as 0."""
    finite = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
    lost = [name for name in metrics if name not in finite]
    return finite, {"not_finite": ", ".join(lost)} if lost else {}
