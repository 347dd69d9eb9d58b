"""Opens an image file. What is wrong with it is one message that names it. Without torch, which takes seconds to load."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gee_core.data.pixels import DAMAGE, FORMATS, TooManyPixelsError, open_image
from gee_core.errors import InputError, in_short


@contextlib.contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[Image.Image]:
    """The image in the file ``path``, called ``name``; InputError where it is missing, no image, damaged, or too large."""
    name = name or str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device could wait forever
            raise InputError(f"{name}: not a file", "replace or remove it")
        with open_image(path) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: not found", "put it back or remove it, then prepare the images again") from None
    except TooManyPixelsError as error:
        raise InputError(f"{name}: {error}", "crop, shrink or remove it") from None
    except DAMAGE as error:
        if isinstance(error, UnidentifiedImageError):
            reason = f"none of {', '.join(FORMATS)}" if path.stat().st_size else "an empty file"
        else:
            reason = in_short(ValueError(str(error).replace(str(path), "it") or type(error).__name__))
        raise InputError(f"{name}: not a readable image ({reason})", "replace or remove it") from None
