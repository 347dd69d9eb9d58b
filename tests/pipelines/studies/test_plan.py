import shlex
from dataclasses import replace

import pytest

from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.model.network import count_parameters
from gee_core.model.wired import wired_network
from pipelines.project.safe_yaml import parse_changes
from pipelines.studies.cli import parse_only
from pipelines.studies.definition import load_study
from pipelines.studies.plan import Cell, Request, cell_key, draft_cells, resolve_cell

STAGES = ("evaluate", "robustness", "export")
BY_CONTENT = {"network.name", "evolve.start", "train.init_from"}
"""Settings that name files, or an entry of the table of networks."""
BARE: dict = {"plots": [], "published": []}
UNEVOLVED = {"evolve.variant": "analytic"}
ENCODED = {"start": [{"label": "encoded", "encoded": {"train.epochs": 3}}]}
NARROWED = {"encoding": [{"label": "genetic"}, {"label": "narrowed", "control": "narrowed"}]}


@pytest.fixture
def draft(write_study):
    def make(preset=None, data=None, seeds=None, overrides=None, only=None, **changes):
        name = write_study(**changes)
        return draft_cells(load_study(name), Request(name, preset, data, seeds, overrides or {}, only or {}))

    return make


def test_every_chosen_combination_of_options_and_seeds_is_a_cell(draft):
    """Seeds count from the preset's."""
    grid = {"network.T": [1, 2], "network.n_genes": [4, 6, 8]}
    for only, steps in ({}, (1, 2)), ({"network.T": {"2"}}, (2,)):
        cells = draft(grid=grid, overrides={"base.seed": 5}, only=only, **BARE)
        combined = [(cell.params.network.T, cell.params.network.n_genes, cell.params.base.seed) for cell in cells]
        assert sorted(combined) == sorted((T, g, seed) for T in steps for g in (4, 6, 8) for seed in (5, 6))


def test_two_columns_set_a_key_to_one_value(draft):
    rate = [{"label": "high", "set": {"train.lr": 0.5}}, {"label": "usual"}]
    assert [cell.params.train.lr for cell in draft(grid={"train.lr": [0.5], "rate": rate}, **BARE, seeds=1)] == [0.5, 0.5]
    with pytest.raises(InputError, match=r"train\.lr = 0\.1, rate = high: train\.lr is set to 0\.1 and to 0\.5"):
        draft(grid={"train.lr": [0.5, 0.1], "rate": rate}, **BARE)


def test_the_presets_values_give_way_to_the_studys_and_those_to_the_commands(draft):
    changes = {"set": {"train.lr": 0.1, "train.batch_size": 8}, "presets": {"other": {"train.batch_size": 4}}}
    cell = draft("other", overrides={"train.lr": 0.2}, **changes)[0]
    assert (cell.params.train.epochs, cell.params.train.lr, cell.params.train.batch_size) == (3, 0.2, 4)
    assert draft(**changes)[0].params.train.batch_size == 8


def test_the_command_of_a_request_is_read_by_a_shell_as_that_request():
    overrides = {"network.init": {"alpha": 1}, "train.epochs": 5, "evolve.start": None, "prepare.path": "ä😀b"}
    request = Request("tiny", "digits", "/my images/x", 2, overrides, {"encoding": {"it's, 5E", "plain"}})
    words = shlex.split(request.command())
    assert words[:10] == ["gee", "study", "run", "tiny", "--preset", "digits", "--data", "/my images/x", "--seeds", "2"]
    given = list(zip(words[10::2], words[11::2], strict=True))
    assert parse_changes([value for option, value in given if option == "--set"]) == overrides
    assert parse_only([value for option, value in given if option == "--only"]) == request.only


def test_a_change_of_a_cell_is_of_its_parameters_its_training_or_its_candidate(draft):
    option = {"label": "x", "paper_genes": 100, "times_proxy_epochs": 5}
    cell = draft(grid={"a": [option]}, set={"evolve.proxy.epochs": 2}, **BARE)[0]
    assert (cell.params.network.width, cell.params.network.n_genes, cell.params.evolve.epochs) == (1 / 8, 12, 10)
    cells = draft(seeds=1, grid={"training": [1, 2], "candidate": [0, 2]}, set={"evolve.variant": "random_search"}, **BARE)
    assert [(cell.training, cell.candidate) for cell in cells] == [(1, 0), (1, 2), (2, 0), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"presets": {"nosuch": {}}}, "studies/tiny.yaml: unknown preset 'nosuch'"),
        ({"seeds": 9999}, "19,998 cells are more than 10,000: leave out options or seeds"),
        ({"overrides": {"train.epochs": -4}}, "encoding = genetic: train.epochs = -4: input should be greater than or equal"),
        ({"only": {"sizes": {"2"}}}, "--only sizes=…: the study has no such column: choose one of encoding"),
        ({"only": {"encoding": {"x"}}}, "--only encoding=x: no such label: choose one of genetic, unencoded"),
        (
            {"overrides": {"evolve.variant": "ste"}},
            "--set evolve.variant: the study varies this key: change it in studies/tiny",
        ),
        (
            {"grid": {"a": [{"label": "x", "paper_genes": 100}]}, "overrides": {"network.n_genes": 5}} | BARE,
            "--set network.n_genes: the study varies this key",
        ),
        ({"set": {"network.n_genes": None, **UNEVOLVED}, "grid": NARROWED}, "n_genes is null: set it"),
        ({"set": {"network.n_genes": None, **UNEVOLVED}, "grid": ENCODED} | BARE, "n_genes is null: set it"),
        ({"grid": ENCODED | {"size": [{"label": "x", "control": "plain"}]}} | BARE, "size = x: encoded, and control or"),
        ({"grid": {"start": [{"label": "x", "encoded": {"train.epochs": 0}}]}} | BARE, "train.epochs = 0: input should be"),
        ({"grid": {"candidate": [3]}} | BARE, "candidate = 3: candidate = 3: the cell has 3 candidates"),
        ({"grid": {"candidate": [1]}, "set": UNEVOLVED} | BARE, "candidate = 1: the cell has 1 candidates"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(draft, arguments, message):
    with pytest.raises(InputError) as caught:
        draft(**arguments)
    assert message in str(caught.value)


def test_controls_have_no_genes_and_as_many_weights_or_parameters(draft, digits):
    genetic, _, plain, _ = (resolve_cell(cell, digits) for cell in draft())
    assert plain.params.network.n_genes is None
    assert plain.params.network.model_dump() | {"n_genes": 6} == genetic.params.network.model_dump()
    assert plain.full_parameters == genetic.full_parameters == parameters(plain, digits)
    cells = draft(seeds=1, grid=NARROWED, set={"network.name": "resnet19", "network.n_genes": 12})
    genetic, narrowed = (resolve_cell(cell, digits) for cell in cells)
    wanted = parameters(genetic, digits)
    assert narrowed.params.network.n_genes is None
    assert abs(parameters(narrowed, digits) - wanted) <= 0.02 * wanted
    assert narrowed.full_parameters == genetic.full_parameters


def test_a_cell_that_starts_at_weights_searches_no_wiring(draft):
    """It first trains its own plain network."""
    search = {"evolve.variant": "ste", "evolve.start": "unit", "evolve.bound": 100}
    [cell] = draft(grid=ENCODED, set=search, seeds=1, **BARE)
    assert (cell.params.evolve.variant, cell.params.evolve.start) == ("analytic", "analytic")
    assert cell.encoded.network.model_dump() == cell.params.network.model_dump() | {"n_genes": None}
    assert (cell.encoded.train.epochs, cell.params.train.epochs) == (3, 2)


def parameters(cell, digits) -> int:
    return count_parameters(wired_network(cell.params.network, load_prepared(digits).meta, None, 0))


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
def test_images_and_files_that_params_name_count_by_their_content(cell, meta, tmp_path, monkeypatch, section, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "inputs/named"
    file.parent.mkdir()
    file.with_suffix(".json").touch()
    own = cell(**{"evolve": {"variant": "analytic"} if section == "train" else {}, section: {name: "inputs/named"}})
    keys = []
    for content in ("a", "b", "a"):
        file.write_text(content)
        keys.append(cell_key(own, own.params, meta))
    assert keys[0] == keys[2] != keys[1]
    elsewhere = meta.model_copy(update={"source": "elsewhere"})
    others = meta.model_copy(update={"sha256": meta.sha256 | {"train_images.npy": "0"}})
    keys = [cell_key(cell(), cell().params, images) for images in (meta, elsewhere, others)]
    assert keys[0] == keys[1] != keys[2]
