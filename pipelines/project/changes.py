"""The option `--set` of commands."""

from typing import Any

from gee_core.errors import InputError


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """Parse ``section.key=value`` strings into values by key; the values are YAML."""
    from pipelines.project.safe_yaml import parse_yaml

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
