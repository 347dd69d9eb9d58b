"""Classifies image files with the exported ONNX model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import torch
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from gee_core.data.augment import Normalise
from gee_core.data.image_files import Form, decode
from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_object

REMEDY = "`dvc repro -f export` recomputes it, `dvc pull` fetches it"


class Card(TypedDict):
    """The keys of meta.json beside the model that prediction needs."""

    class_names: Annotated[list[str], Field(min_length=1)]
    in_channels: Annotated[int, Field(ge=1, le=3)]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    mean: list[float]
    std: list[float]


_CARD = TypeAdapter(Card)


def predict(images: Sequence[Path], onnx_path: Path) -> list[tuple[Path, str, float]]:
    """(file, class name, probability) for each image, converted to the size and channels that the network was trained on.

    Raises:
        InputError: the model is missing or damaged, or a file is not an image.
    """
    card = _model_card(onnx_path)
    form = Form(card["image_size"], card["in_channels"], resize=True)
    pixels = np.stack([decode(path, form) for path in images])
    x = Normalise(tuple(card["mean"]), tuple(card["std"]))(torch.from_numpy(pixels)).contiguous()
    logits = _logits(onnx_path, x.numpy())
    if logits.shape != (len(x), len(card["class_names"])):
        raise InputError(
            f"{onnx_path}: does not answer with {len(card['class_names'])} classes, as its meta.json says; {REMEDY}"
        )
    probabilities = torch.from_numpy(logits).softmax(1)
    best = probabilities.max(1)
    return [
        (path, card["class_names"][index], probability)
        for path, index, probability in zip(images, best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _logits(onnx_path: Path, x: np.ndarray) -> np.ndarray:
    try:
        session = onnxruntime.InferenceSession(onnx_path.read_bytes(), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"images": x})
    except OSError as error:
        raise InputError(f"{onnx_path}: cannot be read ({error.strerror}); {REMEDY}") from None
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise InputError(f"{onnx_path}: damaged ({' '.join(str(error).split())[:200]}); {REMEDY}") from None
    return logits


def _model_card(onnx_path: Path) -> Card:
    path = onnx_path.with_name("meta.json")
    for file in (onnx_path, path):
        if not file.is_file():
            raise InputError(f"{file}: not found; `dvc repro export` makes it, `dvc pull` fetches it")
    try:
        card = _CARD.validate_python(read_json_object(path), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); {REMEDY}") from None
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); {REMEDY}") from None
    if not len(card["mean"]) == len(card["std"]) == card["in_channels"] or 0 in card["std"]:
        raise InputError(f"{path}: damaged (its mean and std are not those of {card['in_channels']} channels); {REMEDY}")
    return card
