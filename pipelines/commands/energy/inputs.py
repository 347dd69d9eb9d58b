"""The images on which a network is measured: a folder's, the prepared test images, or random ones.

Shapes: B batch, C channels, H W space.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gee_core.data.augment import Normalise
from gee_core.data.meta import Meta, load_meta
from gee_core.errors import InputError
from pipelines.commands.predict.images import find_images, read_image
from pipelines.inputs.prepared_images import prepared_images
from pipelines.project.paths import PREPARED

MOST_VALUES = 2**28
"""Most values in one batch: a larger one is a typing error."""


@dataclass(frozen=True)
class Images:
    """Batches, and what they are."""

    title: str
    batches: Callable[[], Iterator[Tensor]]
    """From the beginning at every call; (B, …) float32."""
    random: bool = False


def parse_shape(text: str, batch_size: int) -> tuple[int, ...]:
    """``3,32,32`` as numbers.

    Raises:
        InputError: it has another form, or a batch of it does not fit into memory.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise InputError(
            f"--shape {text!r}: not sizes of 1 or more with commas between them", "write for instance --shape 3,32,32"
        )
    shape = tuple(map(int, parts))
    if math.prod(shape) * batch_size > MOST_VALUES:
        raise InputError(f"--shape {text}: {batch_size} of them have more than {MOST_VALUES:,} values", "lower one of the two")
    return shape


def random_images(shape: tuple[int, ...], n: int, batch_size: int) -> Images:
    """``n`` images with values from 0 to 1, drawn evenly."""

    def batches() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for start in range(0, n, batch_size):
            yield torch.rand(min(batch_size, n - start), *shape, generator=generator)

    return Images(f"{n:,} random inputs of {_sizes(shape)}", batches, random=True)


def folder_images(
    here: Path, folder: Path, shape: tuple[int, ...], n: int, batch_size: int, normalise: Normalise | None = None
) -> Images:
    """The first ``n`` images of ``folder``, brought to ``shape``.

    They are normalised by ``normalise``; without it as the prepared images if these have the same shape, else scaled to values
    from 0 to 1.

    Raises:
        InputError: there are none, one cannot be read, or ``shape`` is not that of square images in grey or colour.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise InputError(
            f"--images: a network for inputs of {_sizes(shape)}", "images have a --shape such as 1,28,28 or 3,32,32"
        )
    files = find_images(here, [folder])[:n]
    meta = None if normalise else prepared_meta(shape)
    scaled = f"normalised as {PREPARED}" if meta else "normalised as its file says" if normalise else "values 0 to 1"
    to_input = meta.normalise if meta else normalise

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(files), batch_size):
            pixels = np.stack([read_image(here, path, shape[0], shape[1]) for path in files[start : start + batch_size]])
            images = torch.from_numpy(pixels)
            yield to_input(images) if to_input else images / 255

    return Images(f"{len(files):,} images of {folder}, {_sizes(shape)}, {scaled}", batches)


def prepared_test_images(n: int, batch_size: int) -> tuple[Images, tuple[int, ...]]:
    """The first ``n`` test images of this project, normalised, and their shape."""
    data = prepared_images()
    images = data.test.subset(torch.arange(min(n, len(data.test))))
    shape = (data.meta.in_channels, data.meta.image_size, data.meta.image_size)

    def batches() -> Iterator[Tensor]:
        return (data.meta.normalise(batch) for batch, _ in images.batches(batch_size))

    return Images(f"{len(images):,} test images of {data.meta.source}, {_sizes(shape)}", batches), shape


def prepared_meta(shape: tuple[int, ...]) -> Meta | None:
    """What the prepared images are, if they have this ``shape``."""
    if not (PREPARED / "meta.json").is_file():
        return None
    meta = load_meta(PREPARED)
    return meta if shape == (meta.in_channels, meta.image_size, meta.image_size) else None


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
