"""What the runs of executions and stages say of themselves: names, settings, origin, images, versions of files."""

import contextlib
import getpass
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from gee_core.config import Params
from pipelines.project.git import git_commit, head
from pipelines.project.paths import LOCK, PARAMS, find_project
from pipelines.project.presets import OF_MACHINE, changes_from_preset
from pipelines.runtime.process_tree import dvc_ancestor, process_key
from pipelines.runtime.run_files import as_texts
from pipelines.runtime.run_folder import RunFolder
from pipelines.tracking.tags import COMMIT

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

TEST = "-test"
"""Ends the digest of the images as those of a test: MLflow ignores a second input of the same name and digest."""

EXECUTION = "GEE_EXECUTION"
"""Environment variable: the `execution_key` of the flow that a stage belongs to."""

FLOW_RUN = "GEE_FLOW_RUN"
"""Environment variable: the Prefect flow run that a process belongs to, as tags of its runs in JSON."""

EXPERIMENT = "DVC_EXP_NAME"
"""Environment variable: the name of the DVC experiment that a stage belongs to."""

SHORT, N_SHOWN, HIDDEN = {"network.n_genes": "g"}, 3, OF_MACHINE | {"prepare.dataset", "prepare.name"}
"""For the name of a run: settings that it calls not by the last part of their key, how many it shows, and those that it leaves
out, since they are of the machine, or its name begins with the data set's."""


def execution_key() -> str:
    """The process that runs the pipeline: the flow, or the `dvc` above this stage, or this process."""
    return os.environ.get(EXECUTION) or process_key(dvc_ancestor() or psutil.Process())


def filter_keys(params: Params) -> dict[str, object]:
    """The parameters that every run has, to filter by."""
    return {
        "dataset": params.prepare.data_name,
        "network": params.network.name,
        "n_genes": params.network.n_genes,
        "variant": params.evolve.variant,
        "width": params.network.width,
        "seed": params.base.seed,
    }


def described(params: Params) -> tuple[str, dict[str, str]]:
    """The name of a pipeline run, which begins with its data set, and its parameters.

    These are all settings, those to filter by, and as ``changed``, in short, what differs from the preset.
    """
    (preset, changes), settings = changes_from_preset(params), flattened(params.model_dump())
    names = Counter(key.rpartition(".")[2] for key in settings)
    of_machine_last = sorted(changes.items(), key=lambda change: change[0] in OF_MACHINE)
    shown = {key if names[name := key.rpartition(".")[2]] > 1 else name: value for key, value in of_machine_last}
    changed = ", ".join(f"{key}={value}" for key, value in shown.items()) or "nothing"
    if not preset.startswith(dataset := params.prepare.data_name):
        preset = f"{dataset} · {preset}"
    return pipeline_name(preset, changes), as_texts(filter_keys(params) | {"changed": changed} | settings)


def pipeline_name(preset: str, changes: Mapping[str, object]) -> str:
    """Name of a pipeline run: ``preset``, the first ``changes`` to it, the DVC experiment: ``digits · g=16 · lr=0.02``."""
    shown = [f"{SHORT.get(key, key.rpartition('.')[2])}={value}" for key, value in changes.items() if key not in HIDDEN]
    more = [f"{len(shown) - N_SHOWN} more"] if len(shown) > N_SHOWN else []
    return " · ".join(filter(None, [preset, *shown[:N_SHOWN], *more, os.environ.get(EXPERIMENT)]))


def origin_tags(project: Path) -> dict[str, str]:
    """Tags of a new run: who started it and by which command, the git commit, DVC experiment and Prefect flow run."""
    user = None
    with contextlib.suppress(OSError, KeyError):  # a container's user need not have a name
        user = getpass.getuser()
    tags = {
        "mlflow.user": user,
        "mlflow.source.name": _command(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": head(project),
        COMMIT: git_commit(project),
        "dvc.experiment": os.environ.get(EXPERIMENT),
    }
    return {tag: value for tag, value in tags.items() if value} | json.loads(os.environ.get(FLOW_RUN) or "{}")


def _command() -> str | None:
    """The command of the process that runs the pipeline, such as ``dvc repro``; None if it has ended."""
    try:
        words = psutil.Process(int(execution_key().rsplit("/", 2)[1])).cmdline()
    except psutil.Error:
        return None
    if words and Path(words[0]).name.startswith("python"):
        words = words[2:] if words[1:2] == ["-m"] else words[1:]
    return " ".join([Path(words[0]).name, *words[1:]])[:500] if words else None


def describe_datasets(meta: "Meta", *contexts: Literal["training", "testing"]) -> dict[str, dict[str, str]]:
    """By context the arguments of MLflow's Dataset: name, digest, source, and as JSON the images' shape, counts and classes."""
    frames = () if meta.events is None else (meta.events.frames,)
    features = (-1, *frames, meta.in_channels, meta.image_size, meta.image_size)
    shapes = {"features": ("uint8", features), "targets": ("int64", (-1,))}
    tensors = {
        name: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}])
        for name, (dtype, shape) in shapes.items()
    }
    shown = {"n_train", "n_test", "n_holdout", "num_classes", "class_names", "mean", "std", "stream", "events"}
    return {
        context: {
            "name": meta.dataset,
            "digest": meta.digest + (TEST if context == "testing" else ""),
            "source_type": "local",
            "source": json.dumps({"uri": meta.source}),
            "schema": json.dumps({"mlflow_tensorspec": tensors}),
            "profile": json.dumps(meta.model_dump(include=shown | ({"class_counts"} if context == "training" else set()))),
        }
        for context in contexts
    }


def upload_versions(run: RunFolder, without: str = "") -> None:
    """Let MLflow show which settings and which results a run has, with dvc.lock but the section of a stage at work.

    While a stage is at work, that is the section of an earlier run.
    """
    project = find_project()
    if (project / PARAMS).is_file():
        run.artifact(project / PARAMS)
    if (lock := project / LOCK).is_file():
        run.text(LOCK.name, re.sub(rf"^  {without}:\n(?:   .*\n)*".encode(), b"", lock.read_bytes(), flags=re.MULTILINE))


def flattened(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of nested dicts by their keys, joined by dots."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
