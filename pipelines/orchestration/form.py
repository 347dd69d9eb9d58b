"""The types of the flows' parameters, with which Prefect's form offers presets, and settings with their types and ranges."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

from gee_core.config import Params
from pipelines.project.presets import preset_names

_SCHEMA = Params.model_json_schema()


def _inlined(schema: Any) -> Any:
    """``schema`` with the models that it refers to inside, in which no field is required, and each is called by its key.

    It has no defaults and no switches, which the form sends for fields that nobody touched.
    """
    if isinstance(schema, list):
        return list(map(_inlined, schema))
    if not isinstance(schema, dict):
        return schema
    schema = _SCHEMA["$defs"].get(schema.get("$ref", "").rpartition("/")[2], {}) | schema
    if schema.get("type") == "boolean":
        schema = {"description": schema.get("description", ""), "enum": [True, False]}
    left_out = ["$ref", "required", "default"] + ["title"] * isinstance(schema.get("title"), str)  # not report.title
    return {key: _inlined(value) for key, value in schema.items() if key not in left_out}


Overrides = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "properties": _inlined(_SCHEMA["properties"])})]
"""New values of params.yaml, by section, or by section.key."""

Preset = Annotated[str | None, WithJsonSchema({"enum": [*preset_names(), None]})]
"""A preset of this project, or None."""


def by_key(overrides: dict[str, Any]) -> dict[str, Any]:
    """``overrides`` by section.key."""
    found: dict[str, Any] = {}
    for name, value in overrides.items():
        is_key = "." in name or not isinstance(value, dict)
        found |= {name: value} if is_key else {f"{name}.{key}": item for key, item in value.items()}
    return found
