"""Finds and reads the images that `gee predict` and `gee energy` are asked about."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gee_core.data.folders import walk
from gee_core.data.opening import opened
from gee_core.data.pixels import EXTENSIONS, to_pixels
from gee_core.errors import InputError

NAME = "name image files, or folders that hold some"
REMEDY = "replace it or leave it out"


def find_images(here: Path, paths: Sequence[Path]) -> list[Path]:
    """The files among ``paths``, whatever their names, and the images at any depth of the folders among them, sorted.

    In folders, an image is a file with one of EXTENSIONS; hidden files and folders and linked folders are left out.

    Args:
        here: the folder that ``paths`` and the result are relative to.
        paths: files and folders.

    Raises:
        InputError: a path does not exist, a folder holds no images or cannot be read; a line for each.
    """
    found: list[Path] = []
    problems: list[InputError] = []
    for path in paths:
        try:
            found += _below(here, path) if (here / path).is_dir() else [_existing(here, path)]
        except InputError as error:
            problems.append(error)
    raise_all(problems)
    return found


def read_image(here: Path, path: Path, in_channels: int, size: int) -> np.ndarray:
    """The image as uint8 (C, H, W), H and W being ``size``.

    Raises:
        InputError: it is not an image, damaged, or too large to be decoded safely.
    """
    try:
        with opened(here / path, shown(path)) as image:
            return to_pixels(image, in_channels, size)
    except InputError as error:
        raise InputError(error.problem, REMEDY) from None


def raise_all(problems: Sequence[InputError]) -> None:
    """Raise ``problems``, if there are any, as one with a line for each; of many, the first twenty.

    Raises:
        InputError: there are problems.
    """
    if problems:
        more = [f"… and {len(problems) - 20:,} more like these"] if len(problems) > 20 else []
        raise InputError("\n".join([*map(str, problems[:20]), *more]))


def shown(name: Path | str) -> str:
    """The name of a file or a class as one line of text, without control characters."""
    return str(name) if str(name).isprintable() else ascii(str(name))


def _existing(here: Path, path: Path) -> Path:
    if not (here / path).exists():
        raise InputError(f"{shown(path)}: not found", NAME)
    if not (here / path).is_file():  # reading a pipe or a device could wait forever
        raise InputError(f"{shown(path)}: neither a file nor a folder", NAME)
    return path


def _below(here: Path, folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise InputError(f"{shown(folder)}: cannot be read ({error.strerror}: {error.filename})", "make it readable")

    found: list[Path] = []
    for parent, _, names in walk(here / folder, fail):
        inside = folder / os.path.relpath(parent, here / folder)
        images = [name for name in names if name.lower().endswith(EXTENSIONS)]
        found += [inside / name for name in images if (Path(parent) / name).is_file()]
    if not found:
        raise InputError(f"{shown(folder)}: holds no images ({', '.join(EXTENSIONS)})", NAME)
    return sorted(found)
