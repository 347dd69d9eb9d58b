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
from gee_core.export.model_card import ModelCard
from pipelines.commands.images import find_images, read_image
from pipelines.inputs.prepared_images import prepared_images, spaced
from pipelines.inputs.remedies import PREPARE, remedy
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


def parse_normalise(mean: str | None, std: str | None) -> Normalise | None:
    """``0.485,0.456,0.406`` and ``0.229,0.224,0.225``; None without either.

    Raises:
        InputError: one is missing, is no list of numbers, has another length, or a standard deviation is not above 0.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise InputError(f"--{'std' if mean is None else 'mean'} alone", "give --mean and --std, one number per channel each")
    means, stds = _numbers("--mean", mean), _numbers("--std", std)
    if len(means) != len(stds):
        raise InputError(f"--mean {mean} --std {std}: {len(means)} and {len(stds)} numbers", "give one per channel each")
    if min(stds) <= 0:
        raise InputError(f"--std {std}: a standard deviation must be above 0", "give those of images with values from 0 to 1")
    return Normalise(means, stds)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise InputError(f"{option} {text!r}: not numbers with commas between them", f"write for instance {option} 0.5,0.5,0.5")
    return values


def random_images(shape: tuple[int, ...], n: int, batch_size: int) -> Images:
    """``n`` images with values from 0 to 1, drawn evenly."""

    def batches() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for start in range(0, n, batch_size):
            yield torch.rand(min(batch_size, n - start), *shape, generator=generator)

    return Images(f"{n:,} random inputs of {_sizes(shape)}", batches, random=True)


def folder_images(
    here: Path,
    folder: Path,
    shape: tuple[int, ...],
    n: int,
    batch_size: int,
    own: Normalise | None = None,
    given: Normalise | None = None,
) -> Images:
    """``n`` images of ``folder``, evenly spaced in the order of their names, brought to ``shape``.

    They are normalised by ``given``, the options; without them by ``own``, the network's; without either as the prepared images
    if these have the same shape, else scaled to values from 0 to 1.

    Raises:
        InputError: there are none, one cannot be read, or ``shape`` is not that of square images in grey or colour, or has
            another number of channels than ``given``.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise InputError(
            f"--images: a network for inputs of {_sizes(shape)}", "images have a --shape such as 1,28,28 or 3,32,32"
        )
    if given and len(given.mean) != shape[0]:
        raise InputError(
            f"--mean, --std: {len(given.mean)} numbers for images of {_sizes(shape)}", f"give {shape[0]} each, one per channel"
        )
    found = find_images(here, [folder])
    files = [found[i] for i in np.linspace(0, len(found) - 1, min(n, len(found))).astype(int)]
    to_input, way = given or own, "as given" if given else "as its file says"
    if to_input is None and (meta := prepared_meta(shape)):
        to_input, way = meta.normalise, f"as {PREPARED}"
    scaled = f"normalised {way}" if to_input else "values 0 to 1"

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(files), batch_size):
            pixels = np.stack([read_image(here, path, shape[0], shape[1]) for path in files[start : start + batch_size]])
            images = torch.from_numpy(pixels)
            yield ordinary(to_input(images)) if to_input else images / 255

    return Images(f"{len(files):,} images of {folder}, {_sizes(shape)}, {scaled}", batches)


def ordinary(images: Tensor) -> Tensor:
    """``images`` in the memory layout that a network that flattens by `view` needs."""
    return images.clone(memory_format=torch.contiguous_format)


def prepared_test_images(n: int, batch_size: int, own: Normalise | None = None) -> Images:
    """``n`` test images of this project, normalised by ``own``, the network's; without it as they were prepared."""
    data = prepared_images()
    images, to_input = spaced(data.test, n), own or data.meta.normalise
    way = ", normalised as its file says" if own else ""

    def batches() -> Iterator[Tensor]:
        return (ordinary(to_input(batch)) for batch, _ in images.batches(batch_size))

    return Images(f"{len(images):,} test images of {data.meta.source}, {_sizes(_shape(data.meta))}{way}", batches)


def prepared_shape() -> tuple[int, ...]:
    """The shape of this project's images.

    Raises:
        InputError: they are not prepared, or what describes them is damaged.
    """
    return _shape(_prepared())


def prepared_meta(shape: tuple[int, ...]) -> Meta | None:
    """What the prepared images are, if there are any and they have this ``shape``."""
    if not (PREPARED / "meta.json").is_file():
        return None
    meta = _prepared()
    return meta if shape == _shape(meta) else None


def _prepared() -> Meta:
    with remedy(PREPARE):
        return load_meta(PREPARED)


def prepared_for(shape: tuple[int, ...], num_classes: int, card: ModelCard | None) -> bool:
    """Whether the prepared images have this ``shape`` and the classes that ``card`` names, or without one as many."""
    meta = prepared_meta(shape)
    return meta is not None and meta.num_classes == num_classes and (card is None or card.class_names == meta.class_names)


def _shape(meta: Meta) -> tuple[int, ...]:
    return meta.in_channels, meta.image_size, meta.image_size


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
