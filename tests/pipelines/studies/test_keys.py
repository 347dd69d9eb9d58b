import pytest

from gee_core.data.prepared import load_prepared
from gee_core.storage.checksummed_json import json_digest
from pipelines.studies.keys import cell_key

PLAIN = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}}


@pytest.fixture
def key(make_params, digits):
    meta = load_prepared(digits).meta

    def of(stages=("evaluate",), candidate=None, **sections):
        return cell_key(make_params(**sections), meta, stages, candidate)

    return of


@pytest.mark.parametrize(
    "changed",
    [
        {"base": {"seed": 1}},
        {"network": {"T": 3}},
        {"evolve": {"a": 0.3}},
        {"train": {"epochs": 9}},
        {"evaluate": {"e_mac": 1.0}},
    ],
)
def test_whatever_influences_a_cell_changes_its_key(key, changed):
    assert key(**changed) != key()


def test_sections_that_no_stage_of_the_cell_reads_do_not(key):
    assert key(robustness={"n_seeds": 9}, report={"title": "Another"}, export={"opset": 20}) == key()
    assert key(("evaluate", "robustness"), robustness={"n_seeds": 9}) != key(("evaluate", "robustness"))


def test_a_plain_networks_key_does_not_depend_on_evolve(key):
    more = PLAIN | {"evolve": {"variant": "analytic", "n_generations": 7}}
    assert key(**more) == key(**PLAIN)


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


def test_candidates_have_keys_of_their_own(key):
    assert len({key(candidate=index) for index in (None, 0, 1)}) == 3


def test_the_images_count_and_where_they_lay_does_not(make_params, digits):
    params, meta = make_params(), load_prepared(digits).meta
    same, others = (
        meta.model_copy(update=changes)
        for changes in ({"source": "elsewhere"}, {"sha256": meta.sha256 | {"train_images.npy": "0"}})
    )
    assert cell_key(params, same, ("evaluate",)) == cell_key(params, meta, ("evaluate",))
    assert cell_key(params, others, ("evaluate",)) != cell_key(params, meta, ("evaluate",))


def test_the_order_of_keys_does_not_count():
    assert json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1}) != json_digest({"a": 2, "b": 1})
