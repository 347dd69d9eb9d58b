"""docs/hooks/knobs.py: the page of the knobs says what gee_core/config and params.yaml say."""

import inspect
import re

import pytest
import yaml

from gee_core.config import Params, Shape
from gee_core.config.evolve import Rescore
from gee_core.config.hardware import Hardware
from gee_core.config.train import Quantise


@pytest.fixture(scope="module")
def knobs(hook):
    return hook("knobs")


@pytest.fixture(scope="module")
def rows(knobs) -> dict[tuple[str, str], list[str]]:
    """The other cells of every row, by section and key."""
    found, section = {}, None
    for line in knobs.tables().splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("| `"):
            key, *cells = (cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|"))
            found[section, key.strip("`")] = cells
    return found


def test_every_key_has_a_row_with_its_docstring_and_its_value(knobs, rows, root):
    values = yaml.load((root / "params.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    keys = [(name, key) for name, section in values.items() for key in section]
    assert [place for place in rows if "." not in place[0]] == keys
    for name, key in keys:
        _, meaning, value = rows[name, key]
        docstring = Params.model_fields[name].annotation.model_fields[key].description
        assert meaning == knobs._meaning(docstring).replace("|", "¦")
        assert value == f"`{values[name][key]}`".replace("'", "")


@pytest.mark.parametrize(
    ("name", "model"),
    [("network.init", Shape), ("evolve.rescore", Rescore), ("train.quantise", Quantise), ("robustness.hardware", Hardware)],
)
def test_a_key_that_holds_keys_has_a_table_of_them_with_their_docstrings_and_defaults(knobs, rows, name, model):
    assert [key for section, key in rows if section == name] == list(model.model_fields)
    for key, field in model.model_fields.items():
        _, meaning, default = rows[name, key]
        assert meaning == knobs._meaning(field.description).replace("|", "¦")
        assert default == ("must be given" if field.is_required() else f"`{field.default}`")
    section, key = name.split(".")
    assert rows[section, key][0] == "the keys below or `null`"
    text = knobs.tables().split(f"### {name}\n\n")[1]
    what = knobs._meaning(re.sub(r"^`[\w.]+`: ", "", inspect.cleandoc(model.__doc__)))
    assert text.startswith(what[0].upper() + what[1:])


@pytest.mark.parametrize(
    "key, text",
    [
        (("base", "seed"), "integer, ≥ 0, < 2³¹"),
        (("base", "precision"), "`auto`, `fp32`, `bf16`"),
        (("network", "decay_input"), "`true`, `false`"),
        (("network", "tau"), "number, > 1, ≤ 10⁶"),
        (("evolve", "population_size"), "integer, ≥ 2, ≤ 10000 or `null`"),
        (("robustness", "strengths"), "list of: number, ≥ 0, ≤ 10⁶"),
        (("report", "title"), "text"),
        (("network", "block"), "`pre`, `post` or `null`"),
        (("network.init", "gamma_0"), "number, ≥ 0.05, ≤ 20"),
        (("evolve.rescore", "top"), "integer, ≥ 1, < 2³¹"),
        (("train.quantise", "format"), "`int8`, `int4`"),
        (("export", "genes"), "`fp32`, `bf16`, `int8`, `int4` or `null`"),
        (("robustness.hardware", "stuck"), "list of: number, ≥ 0, ≤ 1 or `null`"),
        (("robustness.hardware", "lost_step"), "list of: integer, ≥ 0, ≤ 64 or `null`"),
    ],
)
def test_type_and_range_are_those_of_the_model(rows, key, text):
    assert rows[key][0].replace("\u00a0", " ") == text


def test_the_mark_of_the_page_is_the_one_that_the_hook_fills(knobs, root):
    (replaced,) = knobs.KNOBS.findall((root / "docs/knobs.md").read_text(encoding="utf-8"))
    assert set(re.findall("`([a-z]+)`", replaced)) >= set(Params.model_fields)
