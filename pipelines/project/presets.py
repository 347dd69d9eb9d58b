"""Presets: each file in presets/ lists its differences from presets/digits.yaml; together they make a complete params.yaml."""

import io
from pathlib import Path

from ruamel.yaml import YAML

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically
from pipelines.project.params import check_params
from pipelines.project.paths import PARAMS
from pipelines.project.safe_yaml import parse_yaml, read_yaml

PRESETS = Path("presets")
DEFAULT = "digits"


def preset_names() -> list[str]:
    """Names of the presets of this project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str, path: str | None = None) -> dict:
    """The complete params.yaml of a preset, with the comments of presets/digits.yaml; ``path`` replaces `prepare.path`.

    Raises:
        InputError: the preset does not exist, or is not valid.
    """
    if name not in preset_names():
        raise InputError(f"unknown preset {name!r}: choose one of {', '.join(preset_names())}")
    _sections(DEFAULT)
    values = _yaml().load((PRESETS / f"{DEFAULT}.yaml").read_text(encoding="utf-8"))
    if name != DEFAULT:
        for section, keys in _sections(name).items():
            values.setdefault(section, {}).update(keys)
    if path is not None:
        values["prepare"]["path"] = path
    check_params(plain(values), f"presets/{name}.yaml")
    return values


def write_preset(name: str, path: str | None = None, params: Path = PARAMS) -> list[str]:
    """Write the preset ``name`` with its comments to params.yaml; returns the changes as ``key: old → new`` lines.

    Args:
        name: a file in presets/, without its extension.
        path: replaces `prepare.path`, the folder of the images.
        params: the file to write.

    Raises:
        InputError: the preset does not exist or is not valid; params.yaml is unchanged.
    """
    values = load_preset(name, path)
    text = io.StringIO()
    _yaml().dump(values, text)
    before = _values_before(params)
    write_atomically(params, text.getvalue())
    return _changes(before, plain(values))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml


def _sections(name: str) -> dict[str, dict]:
    """The contents of a preset's file."""
    path = PRESETS / f"{name}.yaml"
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found", "take it from the repository: the other presets are changes to it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML ({error})", "fix it or take it from the repository") from None
    if not isinstance(values, dict) or not all(isinstance(keys, dict) for keys in values.values()):
        raise InputError(f"{path}: must hold sections of params.yaml with keys in them", "fix it")
    return values


def _values_before(params: Path) -> dict:
    try:
        return read_yaml(params)
    except (OSError, ValueError):  # missing, or damaged, which the preset fixes
        return {}


def plain(values: dict) -> dict:
    """A result of `load_preset` as ordinary dicts, lists and numbers."""
    buffer = io.StringIO()
    YAML().dump(values, buffer)
    return parse_yaml(buffer.getvalue())


def _changes(before: dict, after: dict) -> list[str]:
    def flat(values: dict) -> dict:
        return {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}

    try:
        old = flat(before)
    except AttributeError:  # the old file was not a params.yaml
        old = {}
    return [f"{key}: {old.get(key)} → {value}" for key, value in flat(after).items() if old.get(key) != value]
