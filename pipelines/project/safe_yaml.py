"""YAML that anybody may have written, in a file or on the command line: plain values of bounded size, one kind of error."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

MAX_CHARACTERS = 2**17
MAX_VALUES = 20_000
"""With aliases written out: ten lines of them can stand for billions."""
MAX_MERGES = 30
"""Merge keys are written out while parsing already, and double with every line of a bomb."""


def read_yaml(path: Path) -> Any:
    """What a YAML 1.2 file holds, as DVC reads it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML, or too large to be parameters; on one line.
    """
    with path.open(encoding="utf-8") as file:
        return parse_yaml(file.read(MAX_CHARACTERS + 1))


def parse_yaml(text: str) -> Any:
    """What ``text`` holds.

    Raises:
        ValueError: it is not YAML, or too large to be parameters; on one line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS:,} characters")
    if "<<" in text and text.count("*") > MAX_MERGES:
        raise ValueError(f"more than {MAX_MERGES} aliases together with merge keys")
    try:
        values = YAML(typ="safe", pure=True).load(text)
        _check_size(values)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # the parser lets errors of any type escape where text is malformed
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    return values


def _check_size(values: Any) -> None:
    waiting, seen = [values], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, int) and value.bit_length() > 64:
            raise ValueError(f"a whole number of {value.bit_length()} bits")
