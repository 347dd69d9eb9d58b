"""What a stage, an execution or a study leaves on disk for MLflow: a folder each in .scratch/tracking.

run.json          who it is, its parameters, tags and model, and how it ended; always written whole
points/           metrics, a file per call
children/         finished candidates or cells, a file each
own/, shared/     files for its run, and for the run of its execution
begin/, end/      params.yaml and dvc.lock at its begin and its end, for the run of its execution
model/            the files of an exported model

A file is deleted once MLflow has it, and the folder once its run has ended there.
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

WHY = ".why"
"""File in a folder: why MLflow cannot have it now."""

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
    promote_metric: str
    """The best model of a name by this one of ``metrics`` is the champion."""
    higher_is_better: bool
    time: int = 0
    """When it was tracked, in ms."""

    def files(self) -> dict[str, Path]:
        """The paths of FILES, and of those of OTHERS that are there, by their names."""
        others = [name for name in OTHERS if (self.folder / name).is_file()]
        return {name: self.folder / name for name in (*FILES, *others)}


class Point(BaseModel):
    """Metrics of one moment, in ms, of the run with this ``key``."""

    key: str
    time: int
    step: int
    metrics: dict[str, float]


class Run(BaseModel):
    """A run of MLflow, which is found by its ``key``; times are in ms."""

    key: str
    level: str
    name: str
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    texts: dict[str, str] = {}
    """Contents of its artifacts, by the names of the files."""
    start: int
    ended: int = 0
    status: End | None = None


class Told(BaseModel):
    """run.json."""

    stage: str
    """Empty for an execution or a study."""
    own: Run
    shared: Run
    """That of its execution or study; the same as ``own`` where this folder is that of the execution or study."""
    origin: dict[str, str]
    """Tags of these two when they are made."""
    store: str
    experiment: str
    process: str
    """The `process_key` of the process that writes this folder, and of the process that runs the pipeline."""
    execution: str
    in_flow: bool
    """Whether that process ends the run of its execution."""
    error: str = ""
    search: str = ""
    """Begins the keys of candidates, which are the same runs however often the search is repeated."""
    views: dict[str, str] = {}
    """Of the candidates below the run, for people to follow a link to."""
    marks: list[tuple[Point, dict[str, str]]] = []
    """Metrics and tags that the end of a search adds to candidates."""
    datasets: dict[str, dict[str, str]] = {}
    """The arguments of MLflow's Dataset, by context."""
    model: ExportedModel | None = None

    def has_ended(self) -> bool:
        """Whether nothing is added to the folder any more."""
        return self.own.status is not None or is_gone(self.process)


def tracking_root() -> Path:
    """Where this project's folders lie, also when called in one of DVC's temporary copies."""
    return original_project(find_project()) / SCRATCH / "tracking"


def read_told(folder: Path) -> Told | None:
    """The run.json of ``folder``; None where it is damaged, or the folder is gone."""
    with contextlib.suppress(OSError, ValidationError):
        return Told.model_validate_json((folder / "run.json").read_bytes())
    return None


def all_told(root: Path) -> dict[Path, Told]:
    """Every folder below ``root`` with its run.json, the oldest first."""
    known = {path.parent: read_told(path.parent) for path in root.glob("2*/run.json")}
    return dict(sorted(((path, told) for path, told in known.items() if told), key=lambda pair: pair[1].own.start))


def files_in(folder: Path) -> list[Path]:
    """The files in and below ``folder`` that are written whole."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]


def waiting(folder: Path) -> int:
    """Number of files in ``folder`` that MLflow does not have; run.json counts once its run has ended, which is to be told."""
    told = read_told(folder)
    return 0 if told is None else len(files_in(folder)) - (not told.has_ended())


def last_sign(folder: Path, told: Told) -> int:
    """When the run of ``folder`` ended, or the last sign of a killed one, in ms."""
    return told.own.ended if told.own.status else round(1000 * (folder / "run.json").stat().st_mtime)


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
