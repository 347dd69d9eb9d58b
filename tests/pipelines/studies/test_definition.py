import pytest

from gee_core.errors import InputError
from pipelines.project.presets import preset_names
from pipelines.studies.definition import load_study
from pipelines.studies.plan import Request, draft_cells, resolve_cell
from tests.project_copy import ROOT

SHIPPED = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))


def options(*labels):
    return [{"label": label} for label in labels]


def published(**changes):
    return {"published": [{"columns": {}, "metrics": {"test_accuracy": 0.9}, "source": "Table 1"} | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {}}, "studies/tiny.yaml: grid: is empty: give it at least one column with one option"),
        (
            {"cells": [{"columns": {"encoding": "genetic"}, "set": {"train.lr": 0.1}}]},
            "studies/tiny.yaml: two cells have the labels {'encoding': 'genetic'}: give each its own",
        ),
        ({"grid": {"a": [{"label": "x", "sett": {}}]}}, "grid.a.0.sett is not a known key: did you mean set?"),
        ({"grid": {"a": options("x\ny")}}, "studies/tiny.yaml: grid.a.0.label = 'x\\ny': write one line of printable"),
        ({"title": "a\x1b[31m"}, "studies/tiny.yaml: title = 'a\\x1b[31m': write one line of printable characters"),
        ({"grid": dict.fromkeys("abc", options(*map(str, range(1000))))}, "2,000,000,000 cells are more than 10,000: leave"),
        ({"metrics": ["test_acuracy"]}, "unknown metric 'test_acuracy': did you mean test_accuracy?"),
        ({"plots": [{"kind": "line", "x": "genes"}]}, "plots.0: unknown column 'genes': the study has encoding"),
        ({"plots": [{"kind": "bars"}, {"kind": "line"}]}, "plots.1: x is missing: add the column of `line`"),
        ({"plots": [{"kind": "bars", "group": ["layer"]}]}, "plots.0: unknown column 'layer': the study has encoding"),
        ({"grid": {"seed": options("x")}}, "the column 'seed' is reserved: give it another name"),
        (published(columns={"x": "y"}), "unknown column 'x'"),
    ],
)
def test_a_bad_study_file_is_refused_with_file_key_and_remedy(write_study, changes, message):
    with pytest.raises(InputError) as caught:
        load_study(write_study(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bare_value_in_a_column_named_by_a_key_sets_that_key(write_study):
    study = load_study(write_study(grid={"network.T": [1], "candidate": [2]}, plots=[], published=[]))
    [[T], [candidate]] = study.grid.values()
    assert (T.label, T.set, candidate.label, candidate.candidate) == ("1", {"network.T": 1}, "2", 2)


def test_the_stages_of_a_study_are_those_that_measure_what_it_shows(write_study):
    assert load_study(write_study()).stages() == ("evaluate",)
    plots = [{"kind": "line", "rows": "noise", "x": "r"}, {"kind": "scatter", "x": "genes_bytes", "y": "parameters"}]
    assert load_study(write_study(metrics=["parameters"], plots=plots)).stages() == ("robustness", "export")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_is_valid_on_its_own_and_on_every_preset_it_names(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load_study(name)
    for preset in {study.preset, "cifar10-small", *study.presets} & set(preset_names()):
        assert draft_cells(study, Request(name, preset, seeds=1))
    assert study.seeds >= 3


@pytest.mark.parametrize("name", ["noise", "spikes_energy"])
def test_every_narrowed_control_on_digits_exists(name, digits, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = [resolve_cell(cell, digits) for cell in draft_cells(load_study(name), Request(name, seeds=1))]
    assert any(cell.control == "narrowed" for cell in cells)
    assert all(cell.params.network.n_genes is None for cell in cells if cell.control)
