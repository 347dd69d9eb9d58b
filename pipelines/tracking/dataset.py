"""Describes the prepared images as MLflow describes data sets."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta


TEST = "-test"
"""Ends the digest of the images as those of a test: MLflow ignores a second input of the same name and digest."""


def describe_dataset(meta: "Meta", context: str) -> dict[str, str]:
    """The arguments of MLflow's Dataset: name, digest, source, and as JSON the images' shape, counts and classes."""
    image, label = (-1, meta.in_channels, meta.image_size, meta.image_size), (-1,)
    schema = {"features": _tensor("uint8", image), "targets": _tensor("int64", label)}
    of_training = {"class_counts"} if context == "training" else set()
    counts = {"n_train", "n_test", "n_holdout", "num_classes", "class_names"} | of_training
    profile = meta.model_dump(include=counts | {"mean", "std", "stream"})
    return {
        "name": meta.dataset,
        "digest": meta.digest + (TEST if context == "testing" else ""),
        "source_type": "local",
        "source": json.dumps({"uri": meta.source}),
        "schema": json.dumps({"mlflow_tensorspec": schema}),
        "profile": json.dumps(profile),
    }


def _tensor(dtype: str, shape: tuple[int, ...]) -> str:
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}])
