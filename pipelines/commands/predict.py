"""Classifies image files with the exported ONNX model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from gee_core.data.image_files import decode
from gee_core.errors import InputError, in_short
from gee_core.export.model_card import ModelCard
from gee_core.storage.json_object import read_json_model

REMEDY = "`dvc repro -f export` recomputes it, `dvc pull` fetches it"


def predict(images: Sequence[Path], onnx_path: Path) -> list[tuple[Path, str, float]]:
    """(file, class name, probability) for each image, converted to the size and channels that the network was trained on.

    Raises:
        InputError: the model is missing or damaged, or a file is not an image.
    """
    card = _model_card(onnx_path)
    pixels = np.stack([decode(path, card.form) for path in images])
    logits = _logits(onnx_path, card.normalise(torch.from_numpy(pixels)).contiguous().numpy())
    if logits.shape != (len(images), len(card.class_names)):
        problem = f"{onnx_path}: does not answer with {len(card.class_names)} classes, as its meta.json says"
        raise InputError(problem, REMEDY)
    best = torch.from_numpy(logits).softmax(1).max(1)
    names = [card.class_names[index] for index in best.indices.tolist()]
    return list(zip(images, names, best.values.tolist(), strict=True))


def _logits(onnx_path: Path, x: np.ndarray) -> np.ndarray:
    try:
        session = onnxruntime.InferenceSession(onnx_path.read_bytes(), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"images": x})
    except OSError as error:
        raise InputError(f"{onnx_path}: cannot be read ({error.strerror})", REMEDY) from None
    except Exception as error:  # ONNX Runtime's errors have no other common base
        raise InputError(f"{onnx_path}: damaged ({in_short(error)})", REMEDY) from None
    return logits


def _model_card(onnx_path: Path) -> ModelCard:
    path = onnx_path.with_name("meta.json")
    for file in (onnx_path, path):
        if not file.is_file():
            raise InputError(f"{file}: not found", "`dvc repro export` makes it, `dvc pull` fetches it")
    try:
        return read_json_model(path, ModelCard)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})", REMEDY) from None
