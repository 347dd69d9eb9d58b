"""The committed params.yaml, dvc.yaml and presets agree with the models in gee_core.config."""

from pathlib import Path

from ruamel.yaml import YAML

from gee_core.config import Params
from pipelines.project.params import load_params

ROOT = Path(__file__).resolve().parent.parent
SHARED = {"base", "network"}


def read(name: str) -> dict:
    return YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


def test_the_committed_params_are_valid_and_every_value_is_read_as_written():
    assert load_params(ROOT / "params.yaml").model_dump() == read("params.yaml")


def test_every_stage_but_check_depends_on_its_own_section_and_every_other_section_is_shared():
    stages = {name: stage["params"] for name, stage in read("dvc.yaml")["stages"].items()}
    assert (set(stages) - {"check"}) | SHARED == set(Params.model_fields)
    for stage, sections in stages.items():
        assert {key.partition(".")[0] for key in sections} <= set(Params.model_fields)
        assert stage in sections or stage == "check"
