"""Reads YAML 1.2, as DVC does, from a file or the command line: plain values, and ValueError for anything else."""

from pathlib import Path
from typing import Any

from gee_core.errors import InputError


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML; one line.
    """
    return parse_yaml(path.read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ValueError: it is not YAML; one line.
    """
    from ruamel.yaml import YAML

    try:
        return YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # the parser raises errors of any type on malformed text
        message = str(error).partition("To suppress this check")[0]  # an option of the parser that a user cannot set
        raise ValueError(" ".join(message.split()) or type(error).__name__) from None


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """Parse ``section.key=value`` strings, as the option `--set` takes them, into values by key."""
    values = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or "." not in key:
            raise InputError(f"--set {change}", "write section.key=value, for instance train.epochs=5")
        try:
            values[key.strip()] = parse_yaml(text)
        except ValueError:
            raise InputError(f"--set {change}: {text!r} is not a YAML value") from None
    return values
