"""The classes that a model sees in image files."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gee_core.errors import InputError
from pipelines.commands.predict.images import raise_all, read_image
from pipelines.commands.predict.model import Model
from pipelines.runtime.progress import progress

BATCH = 64
"""Most images that the network sees at once."""

BATCH_VALUES = 2**24
"""Most values in them, which bounds the memory: a batch of large images is smaller."""


@dataclass(frozen=True)
class Prediction:
    """What the network sees in a file."""

    file: Path
    top: list[tuple[str, float]]
    """The most probable classes, best first, with their probabilities."""


def predict(here: Path, files: Sequence[Path], model: Model, top: int = 1) -> list[Prediction]:
    """The ``top`` classes of each image, brought to the size and channels that the network was trained on.

    Files are read a batch at a time. Once one cannot be read, the others are read only to name all that cannot.

    Args:
        here: the folder that ``files`` are relative to.
        files: images.
        model: the network that is asked.
        top: how many classes; all of them where the network has fewer.

    Raises:
        InputError: a file is not an image, one line for each; or the model does not answer as it should.
    """
    form = model.card.in_channels, model.card.image_size
    size = max(1, min(BATCH, BATCH_VALUES // (form[0] * form[1] ** 2)))
    found: list[Prediction] = []
    problems: list[InputError] = []
    with progress("predict", len(files)) if len(files) > size else contextlib.nullcontext() as done:
        for start in range(0, len(files), size):
            batch, images = files[start : start + size], []
            for path in batch:
                try:
                    images.append(read_image(here, path, *form))
                except InputError as error:
                    problems.append(error)
            if not problems:
                found += _answers(batch, np.stack(images), model, top)
            if done:
                done(len(batch))
    raise_all(problems)
    return found


def _answers(batch: Sequence[Path], images_BCHW: np.ndarray, model: Model, top: int) -> list[Prediction]:
    p_BK = model.probabilities(images_BCHW)
    best_BT = np.argsort(-p_BK, axis=1, kind="stable")[:, :top]
    names = model.card.class_names
    return [
        Prediction(path, [(names[k], float(p_K[k])) for k in best_T])
        for path, p_K, best_T in zip(batch, p_BK, best_BT, strict=True)
    ]
