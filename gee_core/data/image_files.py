"""Files of images and recordings → uint8 arrays of one size, decoded in worker processes.

Shapes: B images, C channels (1 or 3), H W rows and columns.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gee_core.config import Events
from gee_core.data.opening import opened
from gee_core.data.pixels import GREY_MODES, orientation, to_pixels
from gee_core.data.recordings import common_sensor, decode_recording
from gee_core.errors import InputError
from gee_core.settings import CoreSettings

Result = TypeVar("Result")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Form:
    """Size and channels that every decoded image gets."""

    image_size: int
    """Side in pixels. Images of another size are resized by their shorter side and centre cropped."""
    in_channels: int
    """1 (grey) or 3 (RGB)."""
    events: Events | None = None
    """How recordings become frames, None for images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (T, P, H, W)."""
        frames = () if self.events is None else (self.events.frames,)
        return *frames, self.in_channels, self.image_size, self.image_size


class Header(NamedTuple):
    """What an image file says of itself before it is decoded."""

    width: int
    """In pixels, of the upright image, as the height."""
    height: int
    mode: str
    """Pillow's name of how the file stores a pixel."""

    @property
    def is_grey(self) -> bool:
        """Whether one channel holds all of it."""
        return self.mode in GREY_MODES

    @property
    def size(self) -> str:
        """Such as 32x24."""
        return f"{self.width}x{self.height}"


def header(path: Path) -> Header:
    """Size and mode of an image, without decoding it. An InputError if the file is none."""
    with opened(path) as image:
        width, height = image.size if orientation(image) < 5 else image.size[::-1]
        return Header(width, height, image.mode)


def common_form(root: Path, files: Sequence[str], image_size: int | None, events: Events | None = None) -> Form:
    """The form of all images: grey if every one is, of ``image_size`` or the size that they share. InputError without one."""
    if events is not None:  # the first recording says it
        channels, side, events = common_sensor(root / files[0], events, image_size)
        return Form(side, channels, events)
    headers = {name: header(root / name) for name in files}
    if problem := mixed_depths(root, headers):
        raise problem
    channels = 1 if all(header.is_grey for header in headers.values()) else 3
    if image_size is not None:
        return Form(image_size, channels)
    first, last = (f(headers, key=lambda name: (headers[name].width * headers[name].height, headers[name])) for f in (min, max))
    least, most = headers[first], headers[last]
    if (sizes := len({header.size for header in headers.values()})) > 1:
        middle = int(median(min(header.width, header.height) for header in headers.values()))
        raise InputError(
            f"{root}: its images have {sizes} sizes, from {least.size} ({first}) to {most.size} ({last})",
            f"set prepare.image_size to bring all to one size (the median of their shorter sides is {middle})",
        )
    if least.width != least.height:
        raise InputError(f"{root}: its images are {least.size}, not square", "set prepare.image_size to make them so")
    return Form(least.width, channels)


def mixed_depths(root: Path, headers: dict[str, Header]) -> InputError | None:
    """The error of images of which some have 16 bits per pixel: their upper 8 are kept, so that the others look brighter."""
    deep = [name for name, header in headers.items() if header.mode.startswith("I")]
    if not deep or len(deep) == len(headers):
        return None
    problem = f"{root}: {len(deep)} of {len(headers)} images have 16 bits per pixel, such as {deep[0]}, the others 8"
    return InputError(problem, "save all of them with 8 bits")


def decode_image(path: Path, form: Form) -> np.ndarray:
    """The image or recording, uint8 of ``form.shape``. InputError where it is damaged, or too large."""
    if form.events is not None:
        return decode_recording(path, form.in_channels, form.image_size, form.events)
    with opened(path) as image:
        return to_pixels(image, form.in_channels, form.image_size)


def each_file(look: Callable[[Path], Result], root: Path, files: Sequence[str]) -> Iterator[tuple[str, Result | InputError]]:
    """Each of the ``files`` below ``root``, in order, and what ``look`` sees in it, or the InputError that it raises.

    The files are opened lazily, by worker processes.
    """
    looks = in_order(look, list, as_array(files), root, torch.arange(len(files)).split(64))
    return zip(files, itertools.chain.from_iterable(looks), strict=True)


def stack_images(form: Form, images: Sequence[np.ndarray | InputError]) -> Tensor | InputError:
    """One tensor, which reaches the main process through shared memory, or the first error."""
    for image in images:
        if isinstance(image, InputError):
            return image
    return torch.from_numpy(np.array(images, np.uint8).reshape(len(images), *form.shape))


def in_order(
    look: Callable[[Path], Result],
    collate: Callable[[list[Result | InputError]], Batch],
    files: np.ndarray,
    root: Path,
    batches: Sequence[Tensor],
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """``look`` of the ``files`` that each index tensor of ``batches`` names, in order, ``collate``d by worker processes."""
    n_workers = min(CoreSettings.read().loader_workers, len(batches)) if len(batches) > 1 else 0
    Image.init()  # here, not in each worker: one that is forked while another thread imports could wait forever
    loader = DataLoader(
        _Looks(look, files, root),
        batch_sampler=map(Tensor.tolist, batches),
        collate_fn=collate,
        num_workers=n_workers,
        multiprocessing_context="fork" if n_workers and sys.platform == "linux" else None,  # others would load torch anew
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or the loader draws its workers' seeds from the global one
    )
    try:
        yield from loader  # its iterator has no name, so that an error ends the workers at once
        return
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) and "shared memory" not in str(error):
            raise
        error.with_traceback(None)  # its frames would keep the iterator
    raise InputError(
        "a process that decodes images died (no space in shared memory, /dev/shm, out of memory, or killed)",
        f"set GEE_LOADER_WORKERS=0 or fewer than {n_workers}, or make /dev/shm larger (docker run --shm-size=2g)",
    )


def as_array(files: Sequence[str]) -> np.ndarray:
    """File names as one array of bytes, because workers would gradually copy a list of a million strings."""
    return np.array([os.fsencode(name) for name in files])


class _Looks(Dataset):
    """What ``look`` sees in each of the ``files``, or its InputError: raised, it would arrive wrapped in a traceback."""

    def __init__(self, look: Callable[[Path], object], files: np.ndarray, root: Path):
        self._look, self._files, self._root = look, files, root

    def __getitem__(self, index: int) -> object:
        try:
            return self._look(self._root / os.fsdecode(self._files[index]))
        except InputError as error:
            return error
