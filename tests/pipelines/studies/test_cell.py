"""The key of a cell's result."""

from dataclasses import replace

import pytest

from gee_core.data.prepared import load_prepared
from pipelines.studies.cell import Cell, cell_key

PLAIN = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}}


@pytest.fixture
def key(make_params, digits):
    def of(stages=("evaluate",), meta=None, **sections):
        own = {name: sections.pop(name) for name in ("candidate", "training") if name in sections}
        params = make_params(**sections)
        return cell_key(replace(Cell("grid", {}, params, stages), **own), params, meta or load_prepared(digits).meta)

    return of


@pytest.mark.parametrize(
    "changed",
    [
        {"base": {"seed": 1}},
        {"network": {"T": 3}},
        {"evolve": {"a": 0.3}},
        {"train": {"epochs": 9}},
        {"evaluate": {"e_mac": 1.0}},
        {"stages": ("evaluate", "robustness")},
        {"candidate": 0},
    ],
)
def test_whatever_influences_a_cell_changes_its_key(key, changed):
    assert key(**changed) != key()


def test_every_training_of_a_candidate_has_a_key_of_its_own(key):
    assert len({key(candidate=0, training=number) for number in (None, 1, 2)}) == 3


def test_sections_that_no_stage_of_the_cell_reads_do_not(key):
    assert key(robustness={"n_seeds": 9}, report={"title": "Another"}, export={"opset": 20}) == key()
    assert key(("evaluate", "robustness"), robustness={"n_seeds": 9}) != key(("evaluate", "robustness"))


def test_a_plain_networks_key_does_not_depend_on_evolve(key):
    assert key(**PLAIN | {"evolve": {"variant": "analytic", "n_generations": 7}}) == key(**PLAIN)


@pytest.mark.parametrize(("section", "name"), [("evolve", "start"), ("train", "init_from")])
def test_a_file_that_params_name_counts_by_its_content(key, tmp_path, monkeypatch, section, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "inputs/named"
    file.parent.mkdir()
    file.with_suffix(".json").touch()
    keys = []
    for content in ("a", "b", "a"):
        file.write_text(content)
        keys.append(key(**{section: {name: "inputs/named"}}))
    assert keys[0] == keys[2] != keys[1]


def test_the_images_count_and_their_source_does_not(key, digits):
    meta = load_prepared(digits).meta
    assert key(meta=meta.model_copy(update={"source": "elsewhere"})) == key()
    assert key(meta=meta.model_copy(update={"sha256": meta.sha256 | {"train_images.npy": "0"}})) != key()
