from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.project.presets import preset_names
from pipelines.studies.cell import Request
from pipelines.studies.definition import load_study
from pipelines.studies.plan import draft_cells, resolve_cells

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))


def options(*labels):
    return [{"label": label} for label in labels]


def published(**changes):
    return {"published": [{"columns": {}, "metrics": {"test_accuracy": 0.9}, "source": "Table 1"} | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": 3}, "studies/tiny.yaml: sedes is not a known key: did you mean seeds?"),
        ({"title": None}, "studies/tiny.yaml: title is missing: add it"),
        ({"grid": {}}, "studies/tiny.yaml: grid: is empty: give it at least one column with one option"),
        ({"grid": {"encoding": []}}, "studies/tiny.yaml: grid.encoding = []: list should have at least 1 item"),
        ({"grid": {"a": options("x", "x")}}, "studies/tiny.yaml: two cells have the labels {'a': 'x'}: give each its own"),
        (
            {"cells": [{"columns": {"encoding": "genetic"}, "set": {"train.lr": 0.1}}]},
            "studies/tiny.yaml: two cells have the labels {'encoding': 'genetic'}: give each its own",
        ),
        ({"cells": [{"columns": {"size": "big"}}] * 2}, "two cells have the labels {'size': 'big'}: give each its own"),
        ({"cells": [{"columns": {"encodng": "plain"}}]}, "encodng is no column of the grid: did you mean encoding?"),
        ({"grid": {"a": [{"label": "x", "sett": {}}]}}, "grid.a.0.sett is not a known key: did you mean set?"),
        (
            {"analysis": {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1, 5, 1]}},
            "studies/tiny.yaml: analysis.times_proxy_epochs = [1, 5, 1]: a value is there twice: leave it out once",
        ),
        ({"metrics": ["test_loss"] * 2}, "metrics = ['test_loss', 'test_loss']: a value is there twice: leave it out once"),
        ({"grid": {"a": options("x\ny")}}, "studies/tiny.yaml: grid.a.0.label = 'x\\ny': must be one line"),
        ({"grid": {"a\nb": options("x")}}, "studies/tiny.yaml: grid.a\\nb.[key] = 'a\\nb': must be one line"),
        ({"cells": [{"columns": {"size": ""}}]}, "cells.0.columns.size = '': must be one line that is not empty"),
        ({"seeds": 0}, "studies/tiny.yaml: seeds = 0: input should be greater than or equal to 1"),
        ({"metrics": ["test_acuracy"]}, "unknown metric 'test_acuracy': did you mean test_accuracy?"),
        ({"plots": [{"kind": "line", "x": "genes"}]}, "plots.0: unknown column 'genes': the study has encoding"),
        ({"plots": [{"kind": "bars"}, {"kind": "line"}]}, "plots.1: x is missing: add the column to draw test_accuracy over"),
        ({"plots": [{"kind": "scatter", "x": "params"}]}, "plots.0: unknown metric 'params': did you mean"),
        ({"plots": [{"kind": "bars", "where": {"encoding": "genetics"}}]}, "encoding = 'genetics': did you mean genetic?"),
        ({"plots": [{"kind": "bars", "where": {"encoding": ""}}]}, "no cell has encoding = '': choose from genetic, unencoded"),
        ({"plots": [{"kind": "noise", "group": ["encoding"]}]}, "noise is measured by the stage robustness: add it to stages"),
        ({"grid": {"seed": options("x")}}, "the column 'seed' is reserved: give it another name"),
        ({"grid": {"test_accuracy_sd": options("x")}}, "the column 'test_accuracy_sd' is reserved: give it another name"),
        ({"grid": {"layer": options("x")}, "plots": [{"kind": "layers"}]}, "the column 'layer' is reserved: give it another"),
        ({"metrics": ["genes_bytes"]}, "metrics: genes_bytes is measured by the stage export: add it to stages"),
        ({"plots": [{"kind": "scatter", "x": "genes_bytes"}]}, "plots.0: genes_bytes is measured by the stage export: add it"),
        ({"metrics": ["tau"]}, "metrics: tau is measured by the analysis alone: leave it out"),
        (published(columns={"x": "y"}), "unknown column 'x'"),
        (published(sd={"test_acuracy": 0.1}), "unknown metric 'test_acuracy': did you mean test_accuracy?"),
        (published(metrics={"test_loss": 0.1}), "published.0: test_loss is not in metrics: add it there, or leave it out"),
    ],
)
def test_a_bad_study_file_is_refused_with_file_key_and_remedy(write_study, changes, message):
    with pytest.raises(InputError) as caught:
        load_study(write_study(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plot_may_draw_only_the_cells_without_a_label_in_a_column(write_study):
    cells = [{"columns": {"size": "big"}}]
    assert load_study(write_study(cells=cells, plots=[{"kind": "bars", "where": {"size": ""}}])).plots


def test_an_unknown_study_is_refused_with_the_known_ones(write_study):
    write_study()
    with pytest.raises(InputError, match="unknown study 'tinny': choose one of tiny"):
        load_study("tinny")


def test_a_file_that_is_not_yaml_is_refused(project):
    (project / "studies/bad.yaml").write_text("grid: [")
    with pytest.raises(InputError, match=r"studies/bad\.yaml: not valid YAML"):
        load_study("bad")


def test_a_bare_value_in_a_column_named_by_a_key_sets_that_key(write_study):
    study = load_study(write_study(grid={"network.T": [1, 2]}, plots=[], published=[]))
    assert [(option.label, option.set) for option in study.grid["network.T"]] == [
        ("1", {"network.T": 1}),
        ("2", {"network.T": 2}),
    ]


def test_the_six_studies_of_the_paper_are_there():
    assert {"ablation", "architectures", "evolution_cost", "gene_scale", "noise", "spikes_energy"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_is_valid_on_its_own_and_on_every_preset_it_names(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load_study(name)
    for preset in {study.preset, "cifar10-small", *study.presets} & set(preset_names()):
        # of the folder only its presence is checked
        assert draft_cells(study, Request(name, preset, data=str(ROOT / "docs"), seeds=1))
    assert study.seeds >= 3


@pytest.mark.parametrize("name", ["noise", "spikes_energy"])
def test_every_narrowed_control_on_digits_exists(name, digits, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = resolve_cells(draft_cells(load_study(name), Request(name, seeds=1)), lambda params: digits)
    assert any(cell.control == "narrowed" for cell in cells)
    assert all(cell.params.network.n_genes is None for cell in cells if cell.control)
