"""Fills `docs/knobs.md`: a table per section of params.yaml, from the models of `gee_core.config`.

Keys, ranges and meanings come from the pydantic models, values from params.yaml, so the page cannot go stale. A meaning is the
first sentence of the docstring, and what null means.
"""

import html
import re
from pathlib import Path

import yaml

from gee_core.config import Params
from gee_core.config.genes import GENES

ROOT = Path(__file__).resolve().parents[2]
KNOBS = re.compile("<!-- knobs -->.*<!-- end of knobs -->", re.DOTALL)
FAR = 10**6
"""No bound that is as far from 0 is shown."""
END = re.compile(r"(?<!\bal)(?<!\bEq)(?<!\bSec)\.\s+(?=[A-Z`\[])|;\s|\.\s(?=null)|\.$")


def on_page_markdown(markdown, page, config, files):
    """Put the tables in place of what `knobs.md` has between two marks, links to the files of the repository."""
    if page.file.src_uri != "knobs.md":
        return markdown
    return KNOBS.sub(lambda _: tables(), markdown)


def tables() -> str:
    """All sections as Markdown: a heading, the section's docstring, and a row per setting."""
    schema = Params.model_json_schema()
    values = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # as text
    models, text = schema["$defs"], ""
    for name, field in schema["properties"].items():
        model = models[_model(field)]
        what = brief(re.sub(r"^`[\w.]+`: ", "", model["description"]))
        text += f"## {name}\n\n{what[0].upper()}{what[1:]}.\n\n| setting | range | meaning | value |\n|---|---|---|---|\n"
        text += "".join(_rows(name, model, values[name], models)) + "\n"
    return text + genes()


def genes() -> str:
    """The genes of each group as Markdown, from their table."""
    text = "## Genes of a search\n\n| group | gene | range |\n|---|---|---|\n"
    for name, gene in GENES.items():
        span = f"{gene.low:g}…{gene.high:g}{' times the setting' * gene.relative}" if gene.high else "around its start"
        text += f"| {gene.group} | `{name}`, {gene.about} | {span} |\n"
    return text


def _rows(prefix: str, model: dict, values: dict, models: dict) -> list[str]:
    """A row per field of ``model``, and below a setting that holds others a row for each."""
    rows = []
    for key, field in model["properties"].items():
        value, inner, meaning = values.get(key, field.get("default")), models.get(_model(field)), brief(field["description"])
        options = re.findall("`.*?`", kind(field))
        known = options and all(option in meaning for option in options)
        shown = "" if value is None or isinstance(value, dict) else f"`{_text(value)}`"
        cells = [f"`{prefix}.{key}`", "" if known else kind(field), meaning, shown]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        if inner and "limits" not in meaning:  # those of another setting
            rows += _rows(f"{prefix}.{key}", inner, value if isinstance(value, dict) else {}, models)
    return rows


def _model(field: dict) -> str | None:
    """The name of the model that a field of a JSON schema holds, if any."""
    return next((part["$ref"].split("/")[-1] for part in [field, *field.get("anyOf", [])] if "$ref" in part), None)


def kind(field: dict) -> str:
    """The range of a field of a JSON schema, or its type where it has none. What null means stands in its meaning."""
    if "anyOf" in field:
        return ", ".join(kind(part) for part in field["anyOf"] if part.get("type") != "null")
    if "$ref" in field:
        return "keys below"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"[{kind(field['items'])}]"
    if "minimum" in field and field.get("maximum", FAR) < FAR:
        return f"{field['minimum']:g}…{field['maximum']:g}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return (
        ", ".join(f"{sign}{field[name]:g}" for name, sign in signs.items() if abs(field.get(name, FAR)) < FAR) or field["type"]
    )


def brief(text: str) -> str:
    """The first sentence of a docstring and what it says of null, as a line of Markdown that links the pages that it names."""
    first, *others = END.split(html.escape(re.sub(r"\s+", " ", text).strip(), quote=False))
    text = "; ".join([first, *(part for part in others if part.startswith("null"))])
    return re.sub(r"\bdocs/([\w/-]+)\.md", lambda m: f"[{m[1].split('/')[-1].capitalize().replace('-', ' ')}]({m[1]}.md)", text)


def _text(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(value) + "]" if isinstance(value, list) else value
