"""JSON objects that carry their own checksum, so that a flipped bit in a number is detected."""

import hashlib
import json
import logging
from pathlib import Path

from gee_core.storage.atomic_files import write_json

log = logging.getLogger(__name__)

CHECK = "check"
"""The key of the checksum."""


def seal(values: dict) -> dict:
    """``values`` with their checksum as the last entry; keys must be strings other than ``CHECK``."""
    return values | {CHECK: json_digest(values)}


def unseal(values: dict) -> dict:
    """The argument of ``seal``, from its result after a round trip through JSON.

    Raises:
        ValueError: the checksum is missing or wrong.
    """
    if not isinstance(values, dict) or CHECK not in values:
        raise ValueError("it has no checksum")
    content = {key: value for key, value in values.items() if key != CHECK}
    if values[CHECK] != json_digest(content):
        raise ValueError("its checksum is another")
    return content


def write_sealed(path: Path, values: dict) -> None:
    """``write_json`` of ``values`` with their checksum."""
    write_json(path, seal(values))


def read_sealed(path: Path, *keys: str) -> dict | None:
    """What ``write_sealed`` wrote, with at least ``keys``; None if there is no such file.

    A damaged file is deleted with a warning.
    """
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


def json_digest(values: dict) -> str:
    """16 hexadecimal digits of ``values``, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
