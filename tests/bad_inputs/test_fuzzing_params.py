"""A minute of damage by chance to params.yaml and studies: reading it ends well or with InputError, and in time."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipelines.project.params import load_params
from pipelines.studies.cell import Request
from pipelines.studies.definition import load_study
from pipelines.studies.plan import draft_cells
from tests.bad_inputs.damage import CHANGES, DAMAGE, changed, damaged, reads, tries

pytestmark = pytest.mark.slow
STUDY, PARAMS = Path("studies/tiny.yaml"), Path("params.yaml")


def as_yaml(values: dict) -> bytes:
    file = io.BytesIO()
    YAML().dump(values, file)
    return file.getvalue()


@tries(700)
@given(steps=DAMAGE)
def test_damaged_bytes_of_params(steps, good_params, project):
    PARAMS.write_bytes(damaged(good_params, steps))
    reads(load_params)


@tries(1200)
@given(change=CHANGES)
def test_other_values_and_structure_of_params(change, good_values, project):
    try:
        content = as_yaml(changed(good_values, *change))
    except Exception:  # the writer cannot hold them
        return
    PARAMS.write_bytes(content)
    if reads(load_params):
        assert set(load_params().model_dump()) == set(good_values)


@tries(250)
@given(text=st.text("[]{}:-,*&!|>'\"%@`#?~.<0123456789abcxyz \n\t", max_size=200))
def test_what_only_looks_like_yaml(text, project):
    PARAMS.write_text(text)
    assert not reads(load_params)


@tries(150)
@given(steps=DAMAGE)
def test_damaged_studies(steps, good_study, project):
    STUDY.write_bytes(damaged(good_study, steps))
    reads(lambda: draft_cells(load_study("tiny"), Request("tiny")))


@pytest.fixture
def good_params(project):
    return PARAMS.read_bytes()


@pytest.fixture
def good_values(project):
    return YAML(typ="safe").load(PARAMS.read_text())


@pytest.fixture
def good_study(project):
    return STUDY.read_bytes()
