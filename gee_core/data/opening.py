"""Opens the files of images and recordings. A fault of a file is one message that names it. No torch here: it takes seconds."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from gee_core.data.pixels import DAMAGE, FORMATS, TooManyPixelsError, open_image
from gee_core.errors import InputError, in_short
from gee_core.storage.atomic_files import regular

REPLACE = "replace or remove it"
MAX_BYTES = 2**28
"""Most bytes that a recording may have when it is unpacked: a quarter of a gigabyte, 8 million events of 32 bytes."""


@contextlib.contextmanager
def reading(path: Path, kind: str, name: str | None = None) -> Iterator[IO[bytes]]:
    """The regular file ``path``, open for the body, in which an error of Pillow or numpy becomes an InputError.

    The message calls the file ``name``, and says that it is no readable ``kind``.
    """
    name = name or str(path)
    try:
        with regular(path).open("rb") as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: not found", "put it back or leave it out") from None
    except TooManyPixelsError as error:
        raise InputError(f"{name}: {error}", "scale it down or crop it") from None
    except (*DAMAGE, KeyError, zipfile.BadZipFile) as error:
        reason = in_short(getattr(error, "strerror", None) or str(error).replace(str(path), "it") or type(error).__name__)
        if isinstance(error, UnidentifiedImageError):
            reason = f"none of {', '.join(FORMATS)}" if path.stat().st_size else "an empty file"
        raise InputError(f"{name}: not a readable {kind} ({reason})", REPLACE) from None


@contextlib.contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[Image.Image]:
    """The image in the file ``path``, called ``name``. InputError where it is missing, no image, damaged, or too large."""
    with reading(path, "image", name) as file, open_image(file) as image:
        yield image


def check_unpacked_size(file: IO[bytes]) -> None:
    """ValueError where ``file``, which may be a zip archive, unpacks to more than MAX_BYTES. Nothing is unpacked."""
    size = os.fstat(file.fileno()).st_size
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"unpacks to {size:,} bytes, more than is safe, {MAX_BYTES:,}")
    file.seek(0)
