"""Opens an image file. What is wrong with it is one message that names it. Without torch, which takes seconds to load."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gee_core.data.pixels import DAMAGE, FORMATS, MAX_PIXELS, TooManyPixelsError, open_image
from gee_core.errors import InputError, in_short


@contextlib.contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[Image.Image]:
    """The image in the file ``path``, for a block that decodes it by `to_pixels`; messages call it ``name``, else by its path.

    Raises:
        InputError: it is missing, no image, damaged, or too large to be decoded safely.
    """
    name = name or str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device could wait forever
            raise InputError(f"{name}: not a file", "replace or remove it")
        image = open_image(path)
    except FileNotFoundError:
        target = f" (a link to {os.readlink(path)})" if path.is_symlink() else ""
        raise InputError(f"{name}: not found{target}", "put it back or remove it, then prepare the images again") from None
    except TooManyPixelsError:
        problem = f"{name}: has more pixels than is safe to decode, {MAX_PIXELS:,} (a decompression bomb?)"
        raise InputError(problem, "shrink or remove it") from None
    except InputError:
        raise
    except DAMAGE as error:
        raise _damaged(path, name, error) from None
    with image:
        try:
            yield image
        except TooManyPixelsError as error:  # resized
            raise InputError(f"{name}: {error}", "crop or remove it") from None
        except InputError:
            raise
        except DAMAGE as error:
            raise _damaged(path, name, error) from None


def _damaged(path: Path, name: str, error: Exception) -> InputError:
    if isinstance(error, UnidentifiedImageError):
        reason = f"none of {', '.join(FORMATS)}" if path.stat().st_size else "an empty file"
    else:
        reason = in_short(ValueError(str(error).replace(str(path), "it") or type(error).__name__))
    return InputError(f"{name}: not a readable image ({reason})", "replace or remove it")
