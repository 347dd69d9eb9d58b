"""Finds and reads the images that `gee predict` and `gee energy` are asked about. No torch for images: it takes seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gee_core.config import Events
from gee_core.data.folders import KINDS, files_below
from gee_core.data.opening import opened
from gee_core.data.pixels import EXTENSIONS, GREY_MODES, TooManyPixelsError, to_pixels
from gee_core.errors import InputError, printable


def find_images(here: Path, paths: Sequence[Path], endings: tuple[str, ...] = EXTENSIONS) -> list[Path]:
    """The files among ``paths``, and the images at any depth of the folders among them, sorted. They are relative to ``here``.

    Hidden files and folders and linked folders are left out. An InputError names a folder that holds no images. A file that is
    not there is left to the reader.
    """
    files: list[Path] = []
    for path in paths:
        folder = here / path
        images = sorted(path / file for file in files_below(folder, folder, endings)) if folder.is_dir() else [path]
        if not images:
            problem = f"{printable(str(path))}: holds no {KINDS[endings][0]} ({', '.join(endings)})"
            raise InputError(problem, "name image files, or folders that hold some")
        files += images
    return files


def read_image(
    here: Path, path: Path, in_channels: int, size: int, events: Events | None = None
) -> tuple[np.ndarray, str | None]:
    """The image as uint8 (C, H, W), H and W being ``size``, or a recording as (T, P, H, W). InputError where it is damaged.

    Next to it stands how an image differs from training images in colour, by far in size, or in shape, None if it does not.
    """
    if events is not None:
        from gee_core.data.recordings import decode_recording  # loads torch

        return decode_recording(here / path, in_channels, size, events), None
    try:
        with opened(here / path, printable(str(path))) as image:
            return to_pixels(image, in_channels, size), _difference(image, in_channels, size)
    except InputError as error:
        too_large = isinstance(error.__context__, TooManyPixelsError)
        raise InputError(error.problem, "scale it down or crop it" if too_large else "replace it or leave it out") from None


def _difference(image: Image.Image, in_channels: int, size: int) -> str | None:
    (short, long), in_colour = sorted(image.size), image.mode not in GREY_MODES
    if in_colour == (in_channels == 3) and size <= short <= 8 * size and long <= 1.5 * short:
        return None
    return f"{'in colour' if in_colour else 'grey'}, {image.width} × {image.height} pixels"


def in_lines(problems: Sequence[InputError | str]) -> str:
    """A line for each of the ``problems``, of many for the first twenty."""
    more = [f"… and {len(problems) - 20:,} more like these"] if len(problems) > 20 else []
    return "\n".join([*map(str, problems[:20]), *more])
