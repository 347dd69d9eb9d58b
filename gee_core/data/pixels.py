"""Image files and pictures → uint8 arrays of one size.

Any mode of Pillow becomes grey or RGB of 8 bits: of 16 bits the upper 8 are kept, palettes are looked up, CMYK is converted,
transparency is ignored. An image is turned as its EXIF data say, and of an animation the first frame is read.

It needs Pillow and numpy alone, because MLflow models carry a copy of this file (`pipelines.tracking.served_model`).

Shapes: C channels (1 or 3), H W rows and columns.
"""

import contextlib
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

GREY_MODES = ("L", "LA", "1", "I", "I;16", "I;16L", "I;16B", "I;16N")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""The formats that files may have, whatever their names. Pillow knows forty more, and starts Ghostscript for one of them."""
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""By which images are found in folders, in any case."""
MAX_PIXELS = 2**26
"""Most pixels of a file: 67 million, a fifth of a gigabyte when decoded."""
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow raises for files that are damaged or no images."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of this orientation upright."""


class TooManyPixelsError(ValueError):
    """An image is too large to be decoded safely."""


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """The image in a file, not decoded yet. TooManyPixelsError, or one of DAMAGE where the file is no image."""
    bomb = TooManyPixelsError(f"has more pixels than is safe to decode, {MAX_PIXELS:,} (a decompression bomb?)")
    try:
        with warnings.catch_warnings(action="ignore"):  # of bombs, below which our limit is, and of damaged EXIF data
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise bomb from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise bomb
    return image


def orientation(image: Image.Image) -> int:
    """How the image is to be turned, by the EXIF data at the head of its file: 1 (not at all) to 8."""
    if "exif" not in image.info:  # Pillow would decode a PNG to look for more of them after its pixels
        return 1
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # of data that are damaged
        value = image.getexif().get(0x0112)  # how the camera was held
        return int(value) if value in TURNS else 1
    return 1


def to_pixels(image: Image.Image, in_channels: int, size: int) -> np.ndarray:
    """The image as uint8 (C, H, W), H and W being ``size``: turned upright, the shorter side resized, centre cropped.

    TooManyPixelsError where it is so narrow that it grows too large, one of DAMAGE where it cannot be decoded.
    """
    turn = TURNS.get(orientation(image))
    converted = _convert(image, in_channels)
    pixels = np.asarray(_resize(converted if turn is None else converted.transpose(turn), size))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))


def _convert(image: Image.Image, in_channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if in_channels == 1 else "RGB")


def _resize(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    short = min(image.size)
    width, height = (max(size, side * size // short) for side in image.size)
    if width * height > MAX_PIXELS:
        why = f"with a shorter side of {size} it would have more pixels than is safe, {MAX_PIXELS:,}"
        raise TooManyPixelsError(f"is {image.width}x{image.height}, and {why}")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
