"""JSON objects in files: of untrusted origin, or sealed with a checksum, so that a flipped bit in a number is detected."""

import hashlib
import json
import logging
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gee_core.storage.atomic_files import regular, write_json

log = logging.getLogger(__name__)
AnyModel = TypeVar("AnyModel", bound=BaseModel)

CHECK = "check"
"""The key of the checksum."""


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


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with their checksum as the last entry."""
    return values | {CHECK: json_digest(values)}


def unseal(values: object) -> dict[str, Any]:
    """The argument of ``seal``, from its result after a round trip through JSON. Raises ValueError for a wrong checksum."""
    if not isinstance(values, dict) or CHECK not in values:
        raise ValueError("it has no checksum")
    content = {key: value for key, value in values.items() if key != CHECK}
    if values[CHECK] != json_digest(content):
        raise ValueError("its checksum is another")
    return content


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """``write_json`` of ``values`` with their checksum."""
    write_json(path, seal(values))


def read_sealed(path: Path, *keys: str) -> dict[str, Any] | None:
    """What ``write_sealed`` wrote, with at least ``keys``. None if there is no such file. A damaged one is deleted."""
    try:
        values = unseal(json.loads(path.read_text(encoding="utf-8")))
        if missing := [key for key in keys if key not in values]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return values
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s: damaged (%s); it is recomputed", path, error)
        path.unlink(missing_ok=True)
        return None
