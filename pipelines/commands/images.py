"""Finds and reads the images that `gee predict` and `gee energy` are asked about."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gee_core.config import Events
from gee_core.data.folders import KINDS, walk
from gee_core.data.opening import opened
from gee_core.data.pixels import EXTENSIONS, GREY_MODES, to_pixels
from gee_core.errors import InputError

NAME = "name image files, or folders that hold some"


def find_images(here: Path, paths: Sequence[Path], endings: tuple[str, ...] = EXTENSIONS) -> list[Path]:
    """The files among ``paths``, and the images at any depth of the folders among them, sorted; relative to ``here``.

    Hidden files and folders and linked folders are left out.

    An InputError has a line for each path that does not exist, and each folder that holds no images or cannot be read.
    """
    found: list[Path] = []
    problems: list[InputError] = []
    for path in paths:
        if (here / path).is_dir():
            images = _below(here, path, endings)
            if not images:
                problems.append(InputError(f"{shown(path)}: holds no {KINDS[endings][0]} ({', '.join(endings)})", NAME))
            found += images
        elif (here / path).is_file():
            found.append(path)
        else:  # reading a pipe or a device could wait forever
            problem = "neither a file nor a folder" if (here / path).exists() else "not found"
            problems.append(InputError(f"{shown(path)}: {problem}", NAME))
    raise_all(problems)
    return found


def _below(here: Path, folder: Path, endings: tuple[str, ...]) -> list[Path]:
    def fail(error: OSError) -> None:
        raise InputError(f"{shown(folder)}: cannot be read ({error.strerror}: {error.filename})", "make it readable")

    found: list[Path] = []
    for parent, _, names in walk(here / folder, fail):
        inside = folder / os.path.relpath(parent, here / folder)
        found += [inside / name for name in names if name.lower().endswith(endings) and Path(parent, name).is_file()]
    return sorted(found)


def read_image(here: Path, path: Path, in_channels: int, size: int, events: Events | None = None) -> np.ndarray:
    """The image as uint8 (C, H, W), H and W being ``size``, a recording as (T, P, H, W); InputError where it is damaged."""
    if events is not None:
        from gee_core.data.recordings import decode_recording  # loads torch

        return decode_recording(here / path, in_channels, size, events)
    try:
        with opened(here / path, shown(path)) as image:
            return to_pixels(image, in_channels, size)
    except InputError as error:
        raise InputError(error.problem, "replace it or leave it out") from None


def unlike(here: Path, files: Sequence[Path], in_channels: int, size: int) -> list[str]:
    """Those of ``files`` that differ from training images in colour, by far in size, or in shape, each with what it is."""
    found = []
    for path in files:
        with opened(here / path) as image:
            (short, long), colour = sorted(image.size), image.mode not in GREY_MODES
            if colour != (in_channels == 3) or not size <= short <= 8 * size or long > 1.5 * short:
                found.append(f"{shown(path)} ({'in colour' if colour else 'grey'}, {image.width} × {image.height} pixels)")
    return found


def raise_all(problems: Sequence[InputError]) -> None:
    """Raise ``problems``, if there are any, as one InputError with a line for each; of many, the first twenty."""
    if problems:
        more = [f"… and {len(problems) - 20:,} more like these"] if len(problems) > 20 else []
        raise InputError("\n".join([*map(str, problems[:20]), *more]))


def shown(name: Path | str) -> str:
    """The name of a file or a class as one line of text, without control characters."""
    return str(name) if str(name).isprintable() else ascii(str(name))
