from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.project.presets import preset_names
from pipelines.studies.cell import Request
from pipelines.studies.definition import load_study, study_names
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
        ({"grid": {"encoding": []}}, "studies/tiny.yaml: grid.encoding = []: is empty: give it at least one option"),
        ({"grid": {"a": options("x", "x")}}, "studies/tiny.yaml: grid.a: the label 'x' is used twice"),
        (
            {"cells": [{"columns": {"encoding": "genetic"}, "set": {"train.lr": 0.1}}]},
            "studies/tiny.yaml: cells.0.columns = {'encoding': 'genetic'}: another cell has these labels: give it its own",
        ),
        (
            {"cells": [{"columns": {"size": "big"}}, {"columns": {"size": "big", "encoding": ""}}]},
            "studies/tiny.yaml: cells.1.columns = {'size': 'big', 'encoding': ''}: another cell has these labels",
        ),
        ({"cells": [{"label": "x", "columns": {"size": "big"}}]}, "studies/tiny.yaml: cells.0.label is not a known key"),
        (
            {"cells": [{"columns": {"encodng": "plain"}}]},
            "studies/tiny.yaml: cells.0.columns: encodng is no column of the grid: did you mean encoding?",
        ),
        ({"grid": {"a": [{"label": "x", "sett": {}}]}}, "grid.a.0.sett is not a known key: did you mean set?"),
        (
            {"grid": {"network.init": [None, {"omega_O": 1}]}},
            "{'omega_O': 1}: a value with keys of its own needs a label: write {label: …, set: {network.init: …}}",
        ),
        ({"grid": {"network.init": [{"set": {"network.init": None}}]}}, "grid.network.init.0.label is missing: add it"),
        (
            {"analysis": {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1, 5, 1]}},
            "studies/tiny.yaml: analysis.times_proxy_epochs = [1, 5, 1]: a value is there twice: leave it out once",
        ),
        ({"metrics": ["test_loss"] * 2}, "metrics = ['test_loss', 'test_loss']: a value is there twice: leave it out once"),
        ({"stages": ["evaluate"] * 2}, "stages = ['evaluate', 'evaluate']: a value is there twice: leave it out once"),
        (
            {"grid": {"a": options("")}},
            "studies/tiny.yaml: grid.a.0.label = '': must be one line that is not empty",
        ),
        ({"grid": {"a": options(" x")}}, "studies/tiny.yaml: grid.a.0.label = ' x': must be one line"),
        ({"grid": {"a": options("x\ny")}}, "studies/tiny.yaml: grid.a.0.label = 'x\\ny': must be one line"),
        ({"grid": {"a": options("x\n")}}, "studies/tiny.yaml: grid.a.0.label = 'x\\n': must be one line"),
        ({"grid": {"a\nb": options("x")}}, "studies/tiny.yaml: grid.a\\nb.[key] = 'a\\nb': must be one line"),
        ({"cells": [{"columns": {" ": "x"}}]}, "studies/tiny.yaml: cells.0.columns. .[key] = ' ': must be one line"),
        ({"cells": [{"columns": {"size": "x "}}]}, "studies/tiny.yaml: cells.0.columns.size = 'x ': must be one line"),
        ({"seeds": 0}, "studies/tiny.yaml: seeds = 0: input should be greater than or equal to 1"),
        ({"metrics": ["test_acuracy"]}, "unknown metric 'test_acuracy': did you mean test_accuracy?"),
        ({"plots": [{"kind": "line", "x": "genes"}]}, "plots.0: unknown column 'genes': the study has encoding"),
        ({"plots": [{"kind": "bars"}, {"kind": "line"}]}, "plots.1: x is missing: add the column to draw test_accuracy over"),
        ({"plots": [{"kind": "scatter", "y": "n_genes"}]}, "plots.0: x is missing: add the metric to draw n_genes over"),
        ({"plots": [{"kind": "scatter", "x": "params"}]}, "plots.0: unknown metric 'params': did you mean"),
        ({"plots": [{"kind": "bars", "x": "encoding"}]}, "plots.0: x = 'encoding' is for line and scatter: leave it out"),
        ({"plots": [{"kind": "line", "x": "encoding"}]}, "plots.0.x = 'encoding': no label of this column is a number"),
        (
            {"plots": [{"kind": "bars", "where": {"encoding": "genetics"}}]},
            "studies/tiny.yaml: plots.0.where: no cell has encoding = 'genetics': did you mean genetic?",
        ),
        ({"plots": [{"kind": "bars", "where": {"encoding": ""}}]}, "no cell has encoding = '': choose from genetic, unencoded"),
        ({"plots": [{"kind": "noise", "group": ["encoding"]}]}, "noise is measured by the stage robustness: add it to stages"),
        ({"plots": [{"kind": "hardware"}]}, "hardware is measured by the stage robustness: add it to stages"),
        (
            {"grid": {"strength": options("x")}, "stages": ["robustness"], "plots": [{"kind": "hardware"}], "published": []},
            "the column 'strength' is one of hardware.csv: give it another name",
        ),
        (
            {"grid": {"layer": options("x")}, "plots": [{"kind": "layers"}], "published": []},
            "the column 'layer' is one of layers.csv: give it another name",
        ),
        (
            {"grid": {"r": options("x")}, "stages": ["robustness"], "plots": [{"kind": "noise"}], "published": []},
            "the column 'r' is one of noise.csv: give it another name",
        ),
        (
            {"grid": {"domain": options("image", "norm")}, "stages": ["robustness"], "plots": [{"kind": "noise"}]},
            "the column 'domain' is one of noise.csv, and 'norm' is none of its values: give it another name, or the labels",
        ),
        ({"metrics": ["genes_bytes"]}, "metrics: genes_bytes is measured by the stage export: add it to stages"),
        ({"plots": [{"kind": "scatter", "x": "genes_bytes"}]}, "plots.0: genes_bytes is measured by the stage export: add it"),
        ({"metrics": ["tau"]}, "metrics: tau is measured by the analysis alone: leave it out"),
        (
            {"stages": ["robustness"], "metrics": ["noise_accuracy"]},
            "studies/tiny.yaml: plots.0: test_accuracy is measured by the stage evaluate: add it to stages",
        ),
        (
            {"stages": ["export"], "metrics": ["genes_bytes"], "plots": [{"kind": "layers"}]},
            "studies/tiny.yaml: plots.0: layers is measured by the stage evaluate: add it to stages",
        ),
        ({"published": [{"columns": {"x": "y"}, "metrics": {}, "source": "Table 1"}]}, "unknown column 'x'"),
        (published(sd={"test_acuracy": 0.1}), "unknown metric 'test_acuracy': did you mean test_accuracy?"),
        (
            published(metrics={"test_accuracy": 93.4}),
            "studies/tiny.yaml: published.0.metrics: test_accuracy = 93.4 must be a fraction: write 0.934",
        ),
        (published(sd={"test_accuracy": 1.3}), "published.0.sd: test_accuracy = 1.3 must be a fraction: write 0.013"),
        (
            published(sd={"parameters": 0.1}),
            "studies/tiny.yaml: published.0: sd of parameters without its mean: add it to the row's",
        ),
        (
            published(metrics={"test_loss": 0.1}),
            "studies/tiny.yaml: published.0: test_loss is not in metrics: add it there, or leave it out",
        ),
    ],
)
def test_a_bad_study_file_is_refused_with_file_key_and_remedy(write_study, changes, message):
    with pytest.raises(InputError) as caught:
        load_study(write_study(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_metrics_to_choose_from_are_those_that_a_cell_may_have(write_study):
    with pytest.raises(InputError, match=r"unknown metric 'x': choose from test_accuracy, .*, train_seconds$"):
        load_study(write_study(metrics=["x"]))


def test_a_plot_may_draw_only_the_cells_without_a_label_in_a_column(write_study):
    cells = [{"columns": {"size": "big"}}]
    assert load_study(write_study(cells=cells, plots=[{"kind": "bars", "where": {"size": ""}}])).plots


def test_a_cell_with_a_label_in_every_column_of_the_grid_may_have_one_in_a_column_of_like_name(write_study):
    cells = [{"columns": {"encoding": "genetic", "encodings": "two"}}]
    assert load_study(write_study(cells=cells)).columns() == ["encoding", "encodings"]


def test_an_unknown_study_is_refused_with_the_known_ones(write_study):
    write_study()
    with pytest.raises(InputError, match="unknown study 'tinny': choose one of tiny"):
        load_study("tinny")


def test_a_folder_with_the_name_of_a_study_is_refused_as_unreadable(project):
    (project / "studies/bad.yaml").mkdir()
    with pytest.raises(InputError, match=r"^studies/bad\.yaml: cannot be read \(is a directory\): a folder of this name lies"):
        load_study("bad")


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
    assert name in study_names()
    study = load_study(name)
    for preset in {study.preset, "cifar10-small", *study.presets} & set(preset_names()):
        cells = draft_cells(study, Request(name, preset, data=str(ROOT)))  # any folder: only its presence is looked at
        assert {cell.params.base.seed for cell in cells} == set(range(study.seeds))
    assert study.seeds >= 3


@pytest.mark.parametrize("name", ["architectures", "noise", "spikes_energy"])
def test_every_narrowed_control_on_digits_exists(name, digits, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = resolve_cells(draft_cells(load_study(name), Request(name, seeds=1)), lambda params: digits)
    assert any(cell.control == "narrowed" for cell in cells)
    assert all(cell.params.network.n_genes is None for cell in cells if cell.control)
