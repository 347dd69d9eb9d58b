"""JSON objects that anybody may have written: finite numbers, bounded depth, one kind of error."""

import json
import math
from pathlib import Path


def read_json_object(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, or a number that is not finite or has more than 64 bits.
    """
    try:
        values = json.loads(
            path.read_text(encoding="utf-8"), parse_int=_whole, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def _whole(text: str) -> int:
    if len(text) > 20 or int(text).bit_length() > 64:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"the number {text}, which is not finite")
