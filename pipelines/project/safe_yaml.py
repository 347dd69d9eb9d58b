"""Reads untrusted YAML, from a file or the command line: plain values of bounded size, and ValueError for anything else."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

MAX_CHARACTERS = 2**17
MAX_VALUES = 20_000
"""Counted with aliases expanded, since ten lines of aliases can stand for billions of values."""
MAX_MERGES = 30
"""Aliases in a text with merge keys: the parser itself expands those, and each line of a bomb doubles the values."""


def read_yaml(path: Path) -> Any:
    """The contents of a YAML 1.2 file, as DVC reads it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML, or too large for parameters; one line.
    """
    with path.open(encoding="utf-8") as file:
        return parse_yaml(file.read(MAX_CHARACTERS + 1))


def parse_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ValueError: it is not YAML, or too large for parameters; one line.
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
    except Exception as error:  # the parser raises errors of any type on malformed text
        message = str(error).partition("To suppress this check")[0]  # an option of the parser that a user cannot set
        raise ValueError(" ".join(message.split()) or type(error).__name__) from None
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
