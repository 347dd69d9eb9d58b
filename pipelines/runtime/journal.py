"""A file to which JSON objects are appended, one a line; each is on disk at once and carries a checksum.

Whatever is damaged, by a kill, a power loss or the disk, every other line is still there.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from gee_core.storage.atomic_files import flush, flush_folder, make_folder, write_atomically, writing
from gee_core.storage.checksummed_json import seal, unseal

log = logging.getLogger(__name__)


def append(path: Path, values: dict, durable: bool = True) -> None:
    """Add ``values`` (string keys; numbers may be NaN) to the end of ``path``; it is on disk when this returns.

    Not ``durable``, it survives a kill, and a power loss only once something durable was appended after it: a hundredth of
    the time.

    Raises:
        InputError: the disk is full, or the file may not be written to; the lines before are as they were.
    """
    with writing(path):
        make_folder(path.parent)
        is_new = not path.exists()
        with path.open("ab+") as file:
            file.write(_line_break_missing(file) + _line(values))  # one write: lines of two processes do not mix
            if durable:
                flush(file)
        if is_new:
            flush_folder(path.parent)


def read(path: Path, mend: bool = False) -> list[dict]:
    """Everything that was appended to ``path`` and is whole, in order; what is not is warned about, once.

    ``mend`` also takes the damage out of the file, so that no later call warns of it: for who is alone with it.
    """
    if not path.is_file():
        return []
    lines = [line for line in path.read_bytes().decode(errors="replace").split("\n") if line.strip()]
    found = [list(_objects(line)) for line in lines]
    whole = [values for of_line in found for values in of_line]
    damaged = sum(not of_line for of_line in found)
    if damaged:
        log.warning("%s: %d of %d lines damaged; what they recorded is done again", path, damaged, len(lines))
        if mend:
            write_atomically(path, b"".join(map(_line, whole)))
    return whole


def _line(values: dict) -> bytes:
    return json.dumps(seal(values)).encode() + b"\n"


def _line_break_missing(file) -> bytes:
    """A line break where the last line was cut off, so that it does not swallow the next."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _objects(line: str) -> Iterator[dict]:
    """The sealed objects in ``line``: one, unless the line break between two was damaged, or itself is."""
    decoder, start = json.JSONDecoder(), line.find("{")
    while start >= 0:
        try:
            values, end = decoder.raw_decode(line, start)
            yield unseal(values)
        except (ValueError, RecursionError):
            end = start + 1
        start = line.find("{", end)
