"""Reads YAML 1.2, as DVC does, from a file or the command line: plain values, and ValueError for anything else."""

from pathlib import Path
from typing import Any

from gee_core.errors import InputError
from gee_core.storage.atomic_files import regular

MOST_CHARACTERS = 1_000_000
"""Characters in the values of a YAML text, with those that aliases stand for each time: params.yaml has about 2,000."""


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not YAML. The message is one line.
    """
    return parse_yaml(regular(path).read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ValueError: the text is not YAML, or has too long values. The message is one line.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    try:
        tree = yaml.compose(text)
        nodes, size = [tree], 0  # aliases of aliases would fill the memory once their values are built or printed
        while nodes:
            value = getattr(nodes.pop(), "value", None)
            size += 1 + len(value) if isinstance(value, str) else 1
            if size > MOST_CHARACTERS:
                raise ValueError(f"more than {MOST_CHARACTERS:,} characters in its values, those of aliases included")
            for part in value if isinstance(value, list) else ():
                nodes += part if isinstance(part, tuple) else [part]  # a mapping has pairs
        return None if tree is None else yaml.constructor.construct_document(tree)
    except Exception as error:  # the parser raises errors of any type on malformed text
        message = str(error).partition("To suppress this check")[0]  # an option of the parser that a user cannot set
        raise ValueError(" ".join(message.split()) or type(error).__name__) from None


def parse_changes(changes: list[str]) -> dict[str, object]:
    """Parse ``section.key=value`` strings, as the option `--set` takes them, into values by key."""
    values = dict[str, object]()
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or "." not in key:
            raise InputError(f"--set {change}", "write section.key=value, for instance train.epochs=5")
        try:
            values[key.strip()] = parse_yaml(text)
        except ValueError:
            raise InputError(f"--set {change}: {text!r} is not a YAML value") from None
    return values
