"""Presets: each file in presets/ lists its differences from presets/digits.yaml; together they make a complete params.yaml.

presets/README.md describes them: `gee preset list` prints the table in it.
"""

import contextlib
import io
import json
import logging
import re
from typing import NamedTuple

from ruamel.yaml import YAML

from gee_core.config import Params
from gee_core.errors import InputError, did_you_mean
from gee_core.storage.atomic_files import write_atomically
from pipelines.project.params import KEPT, Values, check_params, load_params, read_sections
from pipelines.project.paths import PARAMS, PRESETS
from pipelines.project.safe_yaml import parse_yaml, read_yaml

log = logging.getLogger(__name__)

DEFAULT = "digits"

OF_MACHINE = {"base.device", "base.precision", "prepare.path"}
"""Settings of the place where a run works, which do not tell presets apart."""


def preset_names() -> list[str]:
    """Names of the presets of this project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def describe_presets() -> dict[str, tuple[str, str, str]]:
    """The purpose, the data and the time of every preset, by name and in the order of presets/README.md."""
    path, names = PRESETS / "README.md", preset_names()
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    described = {name: (purpose, data, time) for name, purpose, data, time in rows if name in names}
    return described | {name: (f"not described in {path}", "", "") for name in names if name not in described}


def changes_from_preset(params: Params) -> tuple[str, dict[str, str]]:
    """The preset that ``params`` differ least from, and by key the values that differ. A file that is not valid is left out."""
    values, changes = _by_key(params.model_dump(exclude_unset=True)), dict[str, dict[str, str]]()
    values["evolve.proxy"] = _named(values["evolve.proxy"], values)
    with contextlib.suppress(InputError):
        default = _by_key(_sections(DEFAULT))
        for name in sorted(preset_names(), key=lambda name: name != DEFAULT):
            with contextlib.suppress(InputError):
                preset = default | _by_key(_sections(name))
                if preset.get("network.block") is None:  # the network's, which Params fill in
                    preset["network.block"] = params.network.block
                preset["evolve.proxy"] = _named(preset["evolve.proxy"], values)
                changes[name] = {key: _in_yaml(value) for key, value in values.items() if preset.get(key) != value}
    return min(changes.items(), key=lambda item: len(item[1].keys() - OF_MACHINE), default=(params.prepare.data_name, {}))


def _named(proxy: Values, values: Values) -> Values:
    """What `evolve.proxy` has to name where `train` is as in ``values``."""
    return {name: value for name, value in proxy.items() if value != values.get(f"train.{name}")}


class Preset(NamedTuple):
    """A preset, checked."""

    text: str
    """The complete params.yaml, with the comments of presets/digits.yaml."""
    values: Values
    """The sections in the text."""
    params: Params


def load_preset(name: str, path: str | None = None) -> Preset:
    """The preset ``name``. ``path`` replaces its `prepare.path`.

    Raises:
        InputError: the preset does not exist, or is not valid.
    """
    if name not in (names := preset_names()):
        near = did_you_mean(name, names)
        raise InputError(f"unknown preset {name!r}", f"choose one of {', '.join(names)}" + (f"; {near}" if near else ""))
    _sections(DEFAULT)
    yaml, text = YAML(), io.StringIO()
    yaml.preserve_quotes, yaml.width = True, 120
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load((PRESETS / f"{DEFAULT}.yaml").read_text(encoding="utf-8"))
    if name != DEFAULT:
        for section, keys in _sections(name).items():
            values.setdefault(section, {}).update(keys)
    if path is not None:
        values["prepare"]["path"] = path
    yaml.dump(values, text)
    plain = parse_yaml(text.getvalue())
    return Preset(text.getvalue(), plain, check_params(plain, f"presets/{name}.yaml"))


def write_preset(preset: Preset) -> list[str]:
    """Write a preset to params.yaml. A file that was edited is kept as params.yaml.bak.

    Returns:
        The changes as ``key: old → new`` lines.

    Raises:
        OSError: params.yaml cannot be read. It is unchanged.
    """
    old = {}
    with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):  # no YAML, or no sections with keys in them
        old = _by_key(read_yaml(PARAMS))
    try:
        is_edited = PARAMS.exists() and bool(changes_from_preset(load_params())[1].keys() - {"prepare.path"})
    except InputError:
        is_edited = True
    if is_edited and (content := PARAMS.read_bytes()):
        write_atomically(KEPT, content)
        log.warning("%s: was edited; kept as %s", PARAMS, KEPT)
    write_atomically(PARAMS, preset.text)
    new = _by_key(preset.values).items()
    return [f"{key}: {_in_yaml(old.get(key))} → {_in_yaml(value)}" for key, value in new if old.get(key) != value]


def set_param_arguments(old: Values, new: Values) -> list[str]:
    """The arguments of `dvc exp run --set-param` that turn the sections ``old`` into ``new``, which has the same keys."""
    before, arguments = _by_key(old), list[str]()
    for key, value in _by_key(new).items():
        if before[key] != value:
            merges = isinstance(before[key], dict) and isinstance(value, dict)  # Hydra would keep keys of the old one
            arguments += [f"~{key}", f"+{key}={_in_hydra(value)}"] if merges else [f"{key}={_in_hydra(value)}"]
    return arguments


def _in_yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _in_hydra(value: object) -> str:
    """``value`` in the grammar of Hydra, in which a string escapes quotes and the backslashes before them."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_in_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_in_hydra, value)) + "]"
    if isinstance(value, str):
        return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + m[2].replace("'", r"\'"), value) + "'"
    return json.dumps(value)


def _by_key(values: Values) -> Values:
    return {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}


def _sections(name: str) -> Values:
    """The contents of a preset's file."""
    path, remedy = PRESETS / f"{name}.yaml", "fix it or take it from the repository"
    sections = read_sections(path, "take it from the repository: the other presets are changes to it", remedy)
    if not all(isinstance(keys, dict) for keys in sections.values()):
        raise InputError(f"{path}: must hold sections of params.yaml with keys in them", remedy)
    return sections
