"""JSON objects in files of untrusted origin."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gee_core.storage.atomic_files import regular

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError as ``parse_json_object``, OSError as ``regular``."""
    return parse_json_object(regular(path).read_text(encoding="utf-8"))


def parse_json_object(text: str) -> dict[str, Any]:
    """The object that ``text`` is. Raises ValueError where it is none, or a number is not finite or has more than 64 bits."""
    try:
        values = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def read_json_model(path: Path, model: type[AnyModel]) -> AnyModel:
    """The object in a JSON file as a ``model``. Raises ValueError on one line where it is none."""
    return as_model(read_json_object(path), model)


def as_model(values: object, model: type[AnyModel]) -> AnyModel:
    """``values``, which were JSON, as a ``model`` of strict types. Raises ValueError on one line, by the ValidationError."""
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError(_explained(error)) from error


def _explained(error: ValidationError) -> str:
    """All that is missing, or else the first thing that is wrong, and where."""
    problems = error.errors()
    if missing := sorted(str(problem["loc"][-1]) for problem in problems if problem["type"] == "missing"):
        return f"lacks {', '.join(missing)}"
    where = ".".join(str(part)[:80] for part in problems[0]["loc"]).encode("unicode_escape").decode()
    message = problems[0]["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _whole(text: str) -> int:
    if len(text) > 20 or int(text).bit_length() > 64:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return value


def json_digest(values: dict[str, Any]) -> str:
    """16 hexadecimal digits of ``values``, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
