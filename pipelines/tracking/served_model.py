"""What MLflow serves: images → names of classes and probabilities.

MLflow copies this file, `classifier.py` beside it and `gee_core/data/pixels.py` into each logged model and runs the copies, so
it imports no other file of this project, and a model keeps the code that it was logged with. Input is a table with a column
``image``; a row holds the bytes of a PNG, JPEG, BMP or WebP file, these bytes as base64, or an array (H, W) or (H, W, C) of
whole numbers 0 … 255. A network for recordings of event cameras takes arrays (T, P, H, W) of their frames alone.
"""

import base64
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from PIL import Image, UnidentifiedImageError

BATCH = 64
"""Images that the network sees at once; it bounds the memory for a long table."""

ACCEPTED = "an image is a PNG, JPEG, BMP or WebP file as base64, or an array (H, W) or (H, W, C) of whole numbers from 0 to 255"


class ImageClassifier(PythonModel):
    """Brings images to the form that the network was trained on, and names their classes."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network and its description from the model's files."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        card = json.loads(files["meta"].read_text(encoding="utf-8"))
        self._names = card["class_names"]
        self._form = card["in_channels"], card["image_size"]
        self._frames = card["events"]["frames"] if card.get("events") else None
        self._pixels = _run_file(files["pixels"])
        self._classify = _run_file(files["classifier"]).Classifier(files["network"], card["mean"], card["std"])

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:
        """One row per image: ``class``, its ``probability``, and ``probabilities`` of every class by its name.

        The answer has the index of ``model_input``, but for a list of files as its only row, which MLflow makes of a list.
        """
        column = list(model_input["image"])
        if len(column) == 1 and isinstance(column[0], list) and all(isinstance(part, str | bytes) for part in column[0]):
            (column,) = column
        images = [self._decode(i, value) for i, value in enumerate(column)]
        batches = [np.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        rows = [self._row(p) for batch in batches for p in self._classify(batch)]
        index = model_input.index if len(rows) == len(model_input) else None
        return pd.DataFrame(rows, index, columns=["class", "probability", "probabilities"])

    def _row(self, p: np.ndarray) -> dict[str, object]:
        probabilities = dict(zip(self._names, p.tolist(), strict=True))
        return {"class": self._names[p.argmax()], "probability": float(p.max()), "probabilities": probabilities}

    def _decode(self, i: int, value: object) -> np.ndarray:
        if self._frames is not None:
            return self._recording(i, value)
        try:
            if isinstance(value, list | np.ndarray):
                image = _from_array(np.asarray(value), self._form[1])
            elif isinstance(value, str | bytes):
                data = base64.b64decode("".join(value.split()), validate=True) if isinstance(value, str) else value
                image = self._pixels.open_image(io.BytesIO(data))
            else:
                raise ValueError(f"is of type {type(value).__name__}")
            return self._pixels.to_pixels(image, *self._form)
        except UnidentifiedImageError:
            raise MlflowException.invalid_parameter_value(f"image {i}: not a readable image; {ACCEPTED}") from None
        except self._pixels.DAMAGE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MlflowException.invalid_parameter_value(f"image {i}: {reason}; {ACCEPTED}") from None

    def _recording(self, i: int, value: object) -> np.ndarray:
        shape, frames = (self._frames, *self._form, self._form[1]), np.asarray(value, dtype=object)
        if frames.shape != shape or not all(isinstance(n, int) and 0 <= n <= 255 for n in frames.flat):
            problem = f"recording {i}: not an array (T, P, H, W) = {shape} of whole numbers from 0 to 255"
            raise MlflowException.invalid_parameter_value(problem)
        return frames.astype(np.uint8)


def _from_array(array: np.ndarray, size: int) -> Image.Image:
    if array.dtype.kind not in "ui" or array.size == 0 or array.min() < 0 or array.max() > 255:
        raise ValueError(f"an array of type {array.dtype}, or with values outside 0 to 255")
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] in (1, 3, 4) and array.shape != (size, size)):
        # MLflow makes a table of the rows of an image that stands alone
        remedy = "wrap a single image in a list, and give a grey one 1, 3 or 4 pixels wide as (H, W, 1)"
        raise ValueError(f"an array of shape {array.shape}, as a row of an image is: {remedy}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(f"an array of shape {array.shape}")
    return Image.fromarray(array.astype(np.uint8))


def _run_file(path: Path) -> ModuleType:
    """The module in a file, not under its name: models of other versions have their own."""
    spec = importlib.util.spec_from_file_location(f"gee_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


set_model(ImageClassifier())
