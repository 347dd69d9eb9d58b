"""The types of the flows' parameters, with which Prefect's form offers presets, and settings with their types and ranges."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

from gee_core.config import Params
from pipelines.project.presets import preset_names


def _fields(schema: Any, models: dict[str, Any]) -> Any:
    """``schema`` with the ``models`` that it refers to inside, in which no field is required."""
    if isinstance(schema, list):
        return [_fields(item, models) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = models[schema["$ref"].rpartition("/")[2]] | schema
    return {key: _fields(value, models) for key, value in schema.items() if key not in ("$ref", "$defs", "required")}


_SCHEMA = Params.model_json_schema()
_SECTIONS = _fields(_SCHEMA["properties"], _SCHEMA["$defs"])

Overrides = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "properties": _SECTIONS})]
"""New values of params.yaml, by section, or by section.key."""

Preset = Annotated[str | None, WithJsonSchema({"type": "string", "enum": preset_names()})]
"""A preset of this project, or None."""


def by_key(overrides: dict[str, Any]) -> dict[str, Any]:
    """``overrides`` by section.key."""
    found: dict[str, Any] = {}
    for name, value in overrides.items():
        is_section = "." not in name and isinstance(value, dict)
        found |= {f"{name}.{key}": item for key, item in value.items()} if is_section else {name: value}
    return found
