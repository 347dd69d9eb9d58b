"""The committed params.yaml, dvc.yaml and presets agree with the models in gee_core.config."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gee_core.config import Params
from pipelines.project.params import check_params, load_params

ROOT = Path(__file__).resolve().parent.parent
SHARED = {"base", "network"}
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


def read(name: str) -> dict:
    return YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


def stages() -> dict[str, list[str]]:
    """Stage name → the sections of params.yaml that it depends on."""
    return {name: stage["params"] for name, stage in read("dvc.yaml")["stages"].items()}


def test_the_committed_params_are_valid_and_every_value_is_read_as_written():
    values = read("params.yaml")
    assert load_params(ROOT / "params.yaml").model_dump() == values


def test_every_stage_but_check_has_its_own_section_and_every_other_section_is_shared():
    assert (set(stages()) - {"check"}) | SHARED == set(Params.model_fields)
    assert not set(stages()) & SHARED


@pytest.mark.parametrize("stage", sorted(set(Params.model_fields) - SHARED))
def test_a_stage_depends_on_its_own_section_and_on_sections_that_exist(stage):
    sections = stages()[stage]
    assert stage in sections
    assert set(sections) <= set(Params.model_fields)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_laid_over_the_default_is_valid_and_changes_what_it_names(name):
    values, overlay = read("presets/digits.yaml"), read(f"presets/{name}.yaml")
    for section, keys in overlay.items():
        assert set(keys) <= set(values[section])  # a misspelt key would be added, not changed
        values[section].update(keys)
    loaded = check_params(values, name).model_dump()
    for section, keys in overlay.items():
        for key, value in keys.items():
            assert loaded[section][key] == value
