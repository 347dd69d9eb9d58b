"""Fills `docs/knobs.md`: a table per section of params.yaml, and per key that holds keys, from the models of `gee_core.config`.

Keys, ranges and meanings come from the pydantic models, values from params.yaml, so the page cannot go stale.
"""

import html
import re
from pathlib import Path

import yaml

from gee_core.config import Params

ROOT = Path(__file__).resolve().parents[2]
KNOBS = re.compile("<!-- knobs -->.*<!-- end of knobs -->", re.DOTALL)
TYPES = {"integer": "integer", "number": "number", "boolean": "`true`, `false`", "string": "text"}


def on_page_markdown(markdown, page, config, files):
    """Put the tables in place of what `knobs.md` has between two marks, links to the files of the repository."""
    if page.file.src_uri != "knobs.md":
        return markdown
    return KNOBS.sub(lambda _: tables(), markdown)


def tables() -> str:
    """All sections as Markdown."""
    schema = Params.model_json_schema()
    values = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # as text
    models = schema["$defs"]
    return "\n\n".join(
        _section(name, models[_model(field)], values[name], models) for name, field in schema["properties"].items()
    )


def _section(name: str, model: dict, values: dict, models: dict) -> str:
    text = _table(f"## {name}", model, "params.yaml", {key: _text(value) for key, value in values.items()})
    nested = {key: models[_model(field)] for key, field in model["properties"].items() if _model(field)}
    for key, inner in nested.items():
        defaults = {name: str(field["default"]) for name, field in inner["properties"].items() if "default" in field}
        text += "\n\n" + _table(f"### {name}.{key}", inner, "if it is left out", defaults)
    return text


def _table(heading: str, model: dict, last: str, values: dict[str, str]) -> str:
    """A heading, the docstring of a model, and a row per field that ends with its value in the column ``last``, if any."""
    what = _meaning(re.sub(r"^`[\w.]+`: ", "", model["description"]))
    lines = [heading, "", what[0].upper() + what[1:], "", f"| key | type and range | meaning | {last} |", "|---|---|---|---|"]
    for key, field in model["properties"].items():
        value = f"`{values[key]}`" if key in values else "must be given"
        cells = [f"`{key}`", kind(field), _meaning(field["description"]), value]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _model(field: dict) -> str | None:
    """The name of the model that a field of a JSON schema holds, if any."""
    return next((part["$ref"].split("/")[-1] for part in [field, *field.get("anyOf", [])] if "$ref" in part), None)


def kind(field: dict) -> str:
    """Type and range of a field of a JSON schema, for people."""
    if "anyOf" in field:
        return " or ".join("`null`" if part.get("type") == "null" else kind(part) for part in field["anyOf"])
    if "$ref" in field:
        return "the keys below"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"list of: {kind(field['items'])}"
    return ", ".join([TYPES[field["type"]], *_bounds(field)])


def _bounds(field: dict) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign}\u00a0{_number(field[name])}" for name, sign in signs.items() if name in field]


def _number(value: float) -> str:
    powers = {2**31: "2³¹", 10**6: "10⁶", 1e6: "10⁶", -1e6: "-10⁶", 1e-6: "10⁻⁶", 1e38: "10³⁸"}
    return powers.get(value) or f"{value:g}"


def _meaning(text: str) -> str:
    """One line of Markdown, in which the name of a page, such as `docs/FILES.md`, is a link to it."""
    text = html.escape(_one_line(text), quote=False)
    return re.sub(r"\bdocs/(\w+)\.md", lambda m: f"[{m[1].capitalize()}]({m[1]}.md)", text)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _text(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(value) + "]" if isinstance(value, list) else value
