"""JSON objects that carry a checksum of their own, so that a flipped bit in a number does not pass for another number."""

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
    return values | {CHECK: _checksum(values)}


def unseal(values: dict) -> dict:
    """What was sealed, read back from JSON.

    Raises:
        ValueError: it is not what was sealed, or never was.
    """
    if not isinstance(values, dict) or CHECK not in values:
        raise ValueError("it has no checksum")
    content = {key: value for key, value in values.items() if key != CHECK}
    if values[CHECK] != _checksum(content):
        raise ValueError("its checksum is another")
    return content


def write_sealed(path: Path, values: dict) -> None:
    """``write_json`` of ``values`` with their checksum."""
    write_json(path, seal(values))


def read_sealed(path: Path, *keys: str) -> dict | None:
    """What ``write_sealed`` wrote, with at least ``keys``; None where it is not there.

    One that is damaged is named in a warning and removed, as if it had never been. One without a checksum is of a time
    before there were any, and taken as it is.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or CHECK in values:
            values = unseal(values)
        if missing := [key for key in keys if key not in values]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return values
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s: damaged (%s); it is recomputed", path, error)
        path.unlink(missing_ok=True)
        return None


def _checksum(values: dict) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
