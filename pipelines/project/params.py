"""Reads params.yaml into the frozen models of ``gee_core.config``, or reports one message per bad key."""

import copy
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gee_core.config import SHARED, Params
from gee_core.errors import InputError, did_you_mean, in_short
from pipelines.project.paths import PARAMS, PREPARED
from pipelines.project.safe_yaml import read_yaml

Model = TypeVar("Model", bound=BaseModel)

Values = dict[str, Any]
"""The values of params.yaml by section, or of a part of it by name. What they are is checked later."""

KEPT = PARAMS.with_suffix(".yaml.bak")
"""Where a preset keeps a params.yaml that is not valid YAML."""

MOVED = {"evolve.proxy_epochs": "evolve.proxy.epochs", "evolve.proxy_images": "evolve.proxy.images"}
MOVED |= {f"evolve.{name}": f"evolve.proxy.{name}" for name in SHARED}
"""Settings of before, by their key then."""

GONE = ("prepare.split_seed", "train.sync_batch_norm", "export.verify_images", "export.promote_metric")
"""Settings of before that there are no more."""

FIX = (
    f"fix it there (`git diff {PARAMS}` shows your changes); `gee preset use digits` starts anew and keeps this file as {KEPT}"
)


def load_params(path: Path = PARAMS) -> Params:
    """Read and check params.yaml (YAML 1.2, as DVC reads it), or raise an InputError."""
    missing = "run from the project folder, or write it with `gee preset use digits`"
    return check_params(read_sections(path, missing, FIX), str(path))


def read_sections(path: Path, missing: str, damaged: str, contents: str = "sections such as `base:`") -> Values:
    """The sections in a YAML file, not checked yet. ``missing`` and ``damaged`` are remedies, ``contents`` is their name.

    Raises:
        InputError: there is none, or it is no YAML with sections.
        OSError: it cannot be read.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found", missing) from None
    except ValueError as error:
        raise InputError(f"{path}: not valid YAML ({error})", damaged) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold {contents}", damaged)
    return values


def check_params(values: Values, source: str) -> Params:
    """``values`` as parameters. ``source`` names them in messages.

    Raises:
        InputError: as `validate_values`. Or the values are those of an earlier version. Or a text holds "${", for which an
            experiment of DVC would put something else, or control characters. Or `prepare.path` holds outputs of the
            pipeline, so that DVC would find a circle.
    """
    found = [f"{section}.{key}" for section, keys in values.items() if isinstance(keys, dict) for key in keys]
    moved = [f"{key} is now {MOVED[key]}" for key in found if key in MOVED]
    gone = [f"{key} is gone" for key in found if key in GONE]
    if moved or gone:
        default = "evolve.proxy has the values of train but for those that it names" if moved else ""
        remedy = "; ".join(filter(None, [default, "remove what is gone" if gone else ""]))
        raise InputError(f"{source}: of an earlier version: {', '.join(moved + gone)}", remedy)
    params = validate_values(Params, values, source)
    for section, keys in params.model_dump().items():
        for key, value in keys.items():
            problem = '"${" stands for another value in DVC\'s experiments' if "${" in str(value) else ""
            if isinstance(value, str) and any(unicodedata.category(character) == "Cc" for character in value):
                problem = "a text with control characters or line breaks"
            if problem:
                raise InputError(f"{source}: {section}.{key} = {in_short(repr(value), 160)}: {problem}", "write it without")
    path = params.prepare.path
    if params.prepare.reads_path and PREPARED.absolute().is_relative_to(os.path.abspath(path)):
        problem = f"{source}: prepare.path = {path}: holds {PREPARED}, which the pipeline writes"
        raise InputError(problem, "move the images to a folder of their own, such as data/raw, and set prepare.path to it")
    return params


def override_values(values: Values, overrides: Values, source: str) -> Values:
    """A copy of ``values`` with the values of ``overrides``, whose unknown keys `check_params` refuses.

    Keys are `section.key`, or `section.key.part` of a setting that has parts, such as evolve.proxy.lr.

    Raises:
        InputError: a key names no section. ``source`` names the overrides.
    """
    changed = copy.deepcopy(values)
    for key, value in overrides.items():
        section, *parents, name = key.split(".")
        place = changed.get(section) if parents or section != key else None
        for parent in parents:
            if isinstance(place, dict) and place.get(parent) is None:
                place[parent] = {}
            place = place[parent] if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise InputError(f"{source}: {key} = {value!r}: no such key", "write section.key, with a section of params.yaml")
        place[name] = value
    return changed


def validate_values(model: type[Model], values: Values, source: object) -> Model:
    """``values`` as a ``model``. ``source`` names them in messages.

    Raises:
        InputError: keys are missing, unknown, of the wrong type or out of range. Each has one line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        told = [problem for problem in problems if not _is_of_train(problem, values)] or problems
        text = "\n".join(f"{source}: {_explain(problem, model)}" for problem in told)
        raise InputError(re.sub(r"(?m)^--set: (\S+) = ", r"--set \1=", text)) from None  # as it was typed


def _is_of_train(problem: Mapping[str, Any], values: Values) -> bool:
    """Whether a ``problem`` is one of `train`, which `evolve.proxy` has from there."""
    place = problem["loc"]
    return len(place) > 2 and place[:2] == ("evolve", "proxy") and place[2] not in values["evolve"]["proxy"]


def _explain(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    place, kind, value = ".".join(map(in_short, problem["loc"])), problem["type"], problem["input"]
    message = problem["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    if not place:
        return message
    if kind == "missing":
        return f"{place} is missing: add it"
    if kind in ("extra_forbidden", "invalid_key"):
        schema = model.model_json_schema()
        keys = [key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})]
        return f"{place} is not a known key: {did_you_mean(str(problem['loc'][-1]), keys) or 'remove it'}"
    shown = "" if isinstance(value, dict) else f" = {in_short(repr(value), 160)}"
    return f"{place}{shown}: {message[0].lower()}{message[1:]}"
