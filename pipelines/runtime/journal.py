"""Append-only files of JSON objects, one per line, each with a checksum: a damaged line does not affect the others."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from gee_core.storage.atomic_files import flush, flush_folder, make_folder, writing
from gee_core.storage.json_object import seal, unseal

log = logging.getLogger(__name__)


def append(path: Path, values: dict[str, Any]) -> None:
    """Append ``values`` (string keys; numbers may be NaN) to ``path``, which is made if it is missing.

    The line survives a power loss.

    Raises:
        InputError: the disk is full, or the file is not writable; the earlier lines are unchanged.
    """
    with writing(path):
        make_folder(path.parent)
        is_new = not path.exists()
        with path.open("ab+") as file:
            is_cut_off = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            line = json.dumps(seal(values)).encode() + b"\n"
            file.write(b"\n" * is_cut_off + line)
            flush(file)
        if is_new:
            flush_folder(path.parent)


def read(path: Path) -> list[dict[str, Any]]:
    """The intact objects of ``path``, in order; a warning counts the damaged lines."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    whole = [values for line in lines if (values := _object(line)) is not None]
    if damaged := len(lines) - len(whole):
        log.warning("%s: %d of %d lines damaged; what they recorded is recomputed", path, damaged, len(lines))
    return whole


def _object(line: bytes) -> dict[str, Any] | None:
    """The object in ``line``, or None if the line is damaged."""
    try:
        return unseal(json.loads(line))
    except (ValueError, RecursionError):
        return None
