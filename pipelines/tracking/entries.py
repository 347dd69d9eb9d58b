"""The entries that a tracker writes to disk for MLflow: one model per kind, each with its time in ms."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

FILES = ("network.onnx", "meta.json", "README.md", "example.png")
"""The files of an exported model."""

OTHERS = ("network.nir", "genes.safetensors")
"""Further files of a model, if NIR can express the network, and if `export.genes` names a format."""

OWN, SHARED = "own", "shared"
"""The run of a tracker; the run of the execution or the study that it belongs to."""

TEST = "-test"
"""Ends the digest of the images as those of a test: MLflow ignores a second input of the same name and digest."""

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

    def files(self) -> list[Path]:
        """Paths of FILES, and of those of OTHERS that are there."""
        others = (self.folder / name for name in OTHERS)
        return [*(self.folder / name for name in FILES), *(path for path in others if path.is_file())]


class _Entry(BaseModel):
    time: int = Field(default_factory=lambda: round(1000 * time.time()))
    files: list[str] = []
    """Files to upload: paths of copies in the outbox."""


class Open(_Entry):
    """The first entry: whose run it is. Its files are those of the execution's run."""

    kind: Literal["open"] = "open"
    stage: str
    """Empty where it is the tracker of an execution or a study."""
    name: str
    """Of the execution's or the study's run."""
    keys: dict[str, str]
    """Parameters of this run and of those below it, to filter by."""
    params: dict[str, str]
    """Further parameters of the execution's run."""
    tags: dict[str, str]
    store: str
    experiment: str
    process: str
    execution: str
    """The `process_key` of the process that runs the pipeline."""
    in_flow: bool
    """Whether that process ends the execution's run."""
    study: str
    """The key of a study, or empty."""


class Log(_Entry):
    """Values of a run; files go into ``folder`` of its artifacts. A tag `tags.WORK` lets it go on with interrupted work."""

    kind: Literal["log"] = "log"
    of: str = OWN
    """OWN, SHARED, or the key of a child."""
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    views: dict[str, str] = {}
    """Of the candidates below the run, for people to follow a link to."""
    step: int = 0
    folder: str = ""


class Child(_Entry):
    """A finished run below the tracker's: a candidate, one scored again, or a cell. Runs with one ``key`` are one run."""

    kind: Literal["child"] = "child"
    level: Literal["candidate", "rescore", "cell"]
    key: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    texts: dict[str, str] = {}
    """Contents of its artifacts, by the names of the files."""
    start: int
    ended: int
    end: End


class Dataset(_Entry):
    kind: Literal["dataset"] = "dataset"
    dataset: dict[str, str]
    """The arguments of MLflow's Dataset."""
    context: str


class LogModel(_Entry):
    kind: Literal["model"] = "model"
    model: ExportedModel


class Close(_Entry):
    kind: Literal["close"] = "close"
    status: End
    error: str = ""


Entry = Open | Log | Child | Dataset | LogModel | Close

PARSE: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
"""Makes an entry of its JSON."""


def describe_dataset(meta: "Meta", context: str) -> dict[str, str]:
    """The arguments of MLflow's Dataset: name, digest, source, and as JSON the images' shape, counts and classes."""
    frames = () if meta.events is None else (meta.events.frames,)
    features = (-1, *frames, meta.in_channels, meta.image_size, meta.image_size)
    shapes = {"features": ("uint8", features), "targets": ("int64", (-1,))}
    tensors = {
        name: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}])
        for name, (dtype, shape) in shapes.items()
    }
    shown = {"n_train", "n_test", "n_holdout", "num_classes", "class_names", "mean", "std", "stream", "events"}
    profile = meta.model_dump(include=shown | ({"class_counts"} if context == "training" else set()))
    return {
        "name": meta.dataset,
        "digest": meta.digest + (TEST if context == "testing" else ""),
        "source_type": "local",
        "source": json.dumps({"uri": meta.source}),
        "schema": json.dumps({"mlflow_tensorspec": tensors}),
        "profile": json.dumps(profile),
    }


def flattened(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of nested dicts by their keys, joined by dots."""
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def texts(values: Mapping[str, object]) -> dict[str, str]:
    """``values`` as strings, as MLflow stores parameters and tags."""
    return {key: str(value) for key, value in values.items()}


def in_microjoules(metrics: Mapping[str, float]) -> dict[str, float]:
    """``metrics``, those in mJ as MLflow's pages show them in few digits, in µJ: ``energy_mj`` as ``energy_uj``."""
    in_uj = {f"{name[:-3]}_uj": float(f"{1000 * mJ:.5g}") for name, mJ in metrics.items() if name.endswith("_mj")}
    return {name: value for name, value in metrics.items() if not name.endswith("_mj")} | in_uj


def finite_metrics(metrics: Mapping[str, float | None]) -> tuple[dict[str, float], dict[str, str]]:
    """The finite metrics, and a tag that names the others: the store would keep NaN as 0."""
    finite = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
    lost = [name for name in metrics if name not in finite]
    return finite, {"not_finite": ", ".join(lost)} if lost else {}
