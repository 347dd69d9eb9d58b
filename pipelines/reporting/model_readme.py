"""The README of an exported model: its data, recipe, measurements, use and limits."""

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path

import jinja2

from gee_core.config import Params
from gee_core.config.network import is_own
from gee_core.config.section import Section
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_text, rate_text
from pipelines.inputs.measured import Evaluation, Exported, Searched


def describe(
    name: str,
    params: Params,
    meta: Meta,
    searched: Searched,
    measured: Evaluation,
    exported: Exported,
    example: str,
    others: Collection[str] = (),
) -> str:
    """The README as Markdown.

    ``example`` is the class of the image in example.png. ``others`` are network.nir and network.safetensors, as far as they
    lie next to network.onnx.
    """
    return template("model_readme.md", text=_text).render(
        name=name,
        params=params,
        own=is_own(params.network.name),
        population=params.evolve.population(len(params.searched_genes())),
        fitness=searched.fitness_in_words(),
        recipe=as_yaml(params.train, indent=4),
        meta=meta,
        classes=[label[:40] for label in meta.class_names[:10]],
        measured=measured,
        exported=exported,
        example=example,
        others=others,
    )


def template(name: str, **filters: Callable[..., str]) -> jinja2.Template:
    """A template of this folder with ``filters``, `energy` and `rate`. That of a page in HTML escapes texts."""
    is_page = name.endswith(".html")
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=is_page,
        keep_trailing_newline=not is_page,
    )
    env.filters |= {"energy": energy_text, "rate": rate_text} | filters
    return env.get_template(name)


def as_yaml(section: Section, indent: int = 2) -> str:
    """The settings of a section of params.yaml, a line each."""
    values = section.model_dump(mode="json")
    return "".join(f"{' ' * indent}{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _text(name: str) -> str:
    """A name from outside as text that Markdown shows as it is."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return re.sub(r"([\\`*_{}\[\]<>()#|!&~])", r"\\\1", shown)
