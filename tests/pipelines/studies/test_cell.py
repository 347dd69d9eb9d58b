"""The key of a cell's result."""

from dataclasses import replace

import pytest

from pipelines.studies.cell import Cell, cell_key

STAGES = ("evaluate", "robustness", "export")
BY_CONTENT = {"network.name", "evolve.start", "train.init_from"}
"""Settings that name files, or an entry of the table of networks."""


@pytest.fixture
def cell(make_params):
    def make(stages=STAGES, **sections):
        return Cell({}, make_params(**sections), stages)

    return make


def variants(params, *sections):
    """By setting, ``params`` with another value of that one setting of ``sections``."""
    for section in sections:
        for name in type(getattr(params, section)).model_fields:
            if f"{section}.{name}" not in BY_CONTENT:
                changed = getattr(params, section).model_copy(update={name: "another"})
                yield f"{section}.{name}", params.model_copy(update={section: changed})


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_the_key_has_every_setting_on_which_a_result_depends_and_no_other(cell, meta):
    plain = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}}
    for one, unread in (
        (cell(), ["prepare", "report"]),  # images count by their content
        (cell(("evaluate",)), ["prepare", "report", "robustness", "export"]),
        (cell(("evaluate",), **plain), ["prepare", "report", "robustness", "export", "evolve"]),
    ):
        key, read = cell_key(one, one.params, meta), [name for name, _ in one.params if name not in unread]
        same = {name for name, params in variants(one.params, *read, *unread) if cell_key(one, params, meta) == key}
        searched = {"evolve.variant"} if "evolve" in unread else set()  # it says whether a plain network is searched
        assert same == {name for name, _ in variants(one.params, *unread)} - searched


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_what_differs_in_network_stages_or_candidate_has_a_key_of_its_own(cell, meta):
    own, first = cell(), cell(network={"n_genes": None}, evolve={"variant": "analytic"}).params
    cells = [cell(network={"name": name}) for name in ("vgg16", "cifarnet")]
    cells += [cell(stages) for stages in ((), ("evaluate",), ("evaluate", "robustness"))]
    cells += [replace(own, candidate=candidate, training=training) for candidate in (0, 1) for training in (None, 1, 2)]
    cells += [replace(own, encoded=params) for _, params in [("first", first), *variants(first, "base", "network", "train")]]
    assert len({cell_key(cell, cell.params, meta) for cell in cells}) == len(cells)


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
