"""The key of a cell's result."""

from dataclasses import replace

import pytest

from gee_core.data.prepared import load_prepared
from pipelines.studies.cell import Cell, cell_key

STAGES = ("evaluate", "robustness", "export")
BY_CONTENT = {"network.name", "evolve.start", "train.init_from"}
"""Settings that name files, or an entry of the table of networks."""


@pytest.fixture
def meta(digits):
    return load_prepared(digits).meta


@pytest.fixture
def cell(make_params):
    def make(stages=STAGES, **sections):
        return Cell("grid", {}, make_params(**sections), stages)

    return make


def variants(params, *sections):
    """By setting, ``params`` with another value of that one setting of ``sections``."""
    for section in sections:
        for name in type(getattr(params, section)).model_fields:
            if f"{section}.{name}" not in BY_CONTENT:
                changed = getattr(params, section).model_copy(update={name: "another"})
                yield f"{section}.{name}", params.model_copy(update={section: changed})


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_every_setting_on_which_a_result_depends_is_in_the_key(cell, meta):
    own = cell()
    key = cell_key(own, own.params, meta)
    read = dict(variants(own.params, "base", "network", "evolve", "train", *STAGES))
    assert {name for name, params in read.items() if cell_key(own, params, meta) == key} == set()
    unread = dict(variants(own.params, "prepare", "report"))  # images count by their content
    assert {name for name, params in unread.items() if cell_key(own, params, meta) != key} == set()
    networks = [cell(network={"name": name}).params for name in ("vgg16", "cifarnet")]
    assert len({cell_key(own, params, meta) for params in networks}) == 2


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_every_setting_of_the_plain_network_that_is_trained_first_is_in_the_key(cell, meta):
    own, first = cell(), cell(network={"n_genes": None}, evolve={"variant": "analytic"}).params
    keys = {"none": cell_key(own, own.params, meta), "first": cell_key(replace(own, encoded=first), own.params, meta)}
    for name, params in variants(first, "base", "network", "train"):
        keys[name] = cell_key(replace(own, encoded=params), own.params, meta)
    assert len(set(keys.values())) == len(keys)


def test_candidates_and_each_of_their_trainings_have_a_key_of_their_own(cell, meta):
    pairs = [(candidate, training) for candidate in (None, 0, 1) for training in (None, 1, 2)]
    assert len({cell_key(replace(cell(), candidate=c, training=t), cell().params, meta) for c, t in pairs}) == len(pairs)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_sections_that_the_cell_does_not_read_are_not_in_the_key(cell, meta):
    own, plain = cell(("evaluate",)), cell(("evaluate",), network={"n_genes": None}, evolve={"variant": "analytic"})
    for one, sections in ((own, ("robustness", "export")), (plain, ("evolve", "robustness", "export"))):
        keys = {cell_key(one, params, meta) for _, params in variants(one.params, *sections)}
        assert keys == {cell_key(one, one.params, meta)}
    assert len({cell_key(cell(stages), own.params, meta) for stages in ((), ("evaluate",), ("evaluate", "robustness"))}) == 3


@pytest.mark.parametrize(("section", "name"), [("evolve", "start"), ("train", "init_from")])
def test_a_file_that_params_name_counts_by_its_content(cell, meta, tmp_path, monkeypatch, section, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "inputs/named"
    file.parent.mkdir()
    file.with_suffix(".json").touch()
    own = cell(**{section: {name: "inputs/named"}})
    keys = []
    for content in ("a", "b", "a"):
        file.write_text(content)
        keys.append(cell_key(own, own.params, meta))
    assert keys[0] == keys[2] != keys[1]


def test_the_images_count_and_their_source_does_not(cell, meta):
    elsewhere = meta.model_copy(update={"source": "elsewhere"})
    others = meta.model_copy(update={"sha256": meta.sha256 | {"train_images.npy": "0"}})
    keys = [cell_key(cell(), cell().params, images) for images in (meta, elsewhere, others)]
    assert keys[0] == keys[1] != keys[2]
