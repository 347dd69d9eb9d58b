"""Whole studies of tiny cells, in this process."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from gee_core.checkpoint import load
from gee_core.config import Params
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.storage.json_object import read_sealed
from pipelines import evaluate
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import study
from pipelines.studies.cell import Cell, Request
from pipelines.studies.reports import OUT
from pipelines.studies.tracking import StudyTracker
from tests.pipelines.studies.conftest import measure

TINY = OUT / "tiny"
PLAIN: dict = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}
KENDALL = {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1, 2], "trainings": 2, "seeds": 1}
GENETIC, UNENCODED = "encoding = genetic, seed 0", "encoding = unencoded, seed 0"


def reports() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in TINY.glob("*.*")}


def written(name):
    return pd.read_csv(TINY / name)


def figures(folder=TINY):
    return {path.name for path in folder.glob("*.svg")}


def trial(column, label):
    """The folder of the study's trial with these cells alone."""
    return OUT / Request("tiny", only={column: {label}}).folder


def test_a_study_ends_in_means_over_its_seeds_next_to_the_published_numbers(run, quick):
    [table] = run()
    assert [(row[0], row[1], *row[-2:]) for row in table.rows] == [
        ("genetic", "55.00 ± 7.07", "2", "ours"),
        ("unencoded", "55.00 ± 7.07", "2", "ours"),
        ("genetic (published)", "90.00", "", "published: Table 2"),
    ]
    about = json.loads((TINY / "study.json").read_text())
    assert about["images"] == {"train": 64, "holdout": 16, "test": 24}
    assert about["command"] == "gee study run tiny"
    assert (about["cells"], about["seeds"], about["failed"]) == (4, [0, 1], [])
    page = (TINY / "index.html").read_text()
    assert page.split("title>")[1] == "A tiny study – digits; vgg16 × 0.125; 2 epochs; n = 2</"
    assert page.count("<svg") == 1 and ">Table 2" not in page and "published: Table 2" in page


def test_a_study_runs_only_what_is_missing_or_forced_and_ends_in_the_same_bytes_after_a_kill(run, quick, monkeypatch):
    def killed_at_the_second(cell):
        if quick:
            raise KeyboardInterrupt
        return study_run_cell(cell)

    def killed(**options):
        quick.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(study, "run_cell", killed_at_the_second)
            run(seeds=1, **options)
        run(seeds=1)
        assert quick == [GENETIC, UNENCODED]
        assert reports() == whole

    study_run_cell = study.run_cell
    run(seeds=1)
    whole = reports()
    killed(force=True)
    shutil.rmtree(OUT)
    killed()
    quick.clear()
    run(seeds=1)
    assert quick == []
    run(seeds=2)
    assert quick == [GENETIC[:-1] + "1", UNENCODED[:-1] + "1"]
    before = {path: path.stat().st_mtime_ns for path in (TINY / "cells").iterdir()}
    run(seeds=1, force=True, only={"encoding": {"unencoded"}})
    assert quick[2:] == [UNENCODED]
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1


def test_cells_that_differ_in_their_labels_alone_run_once_and_are_all_tracked(run, quick, monkeypatch):
    tracked, tracker = [], StudyTracker()
    tracker.cell = lambda cell, result: tracked.append(cell.columns["name"])
    monkeypatch.setattr(study, "open_study_tracker", lambda *_: tracker)
    run(**PLAIN | {"grid": {"name": [{"label": label, "control": "plain"} for label in "ab"]}, "plots": []})
    assert (len(quick), tracked) == (1, ["a", "b"])


def test_rows_of_noise_layers_and_defects_are_figures_and_defects_a_table_of_their_own(run, quick):
    plots = [{"kind": kind, "group": ["encoding"]} for kind in ("hardware", "noise", "layers")]
    _, table = run(stages=["evaluate", "robustness"], plots=plots)
    assert table.headers == ["defect", "strength", "of it", "genetic", "unencoded", "source"]
    assert [row[:2] for row in table.rows] == [["Noise on weights", "0"], ["Noise on weights", "1"], ["Noise on genes", "0.5"]]
    assert table.rows[2][4] == ""  # an unencoded network has no genes
    assert table.rows[0][3:5] == ["55.00 ± 7.07"] * 2
    assert "## Test accuracy (%) under the defects of hardware" in (TINY / "table.md").read_text()
    assert [len(written(f"{kind}.csv")) for kind in ("hardware", "noise", "layers")] == [2 * 3 + 2 * 2, 4 * 2, 4]
    assert figures() == {"1-hardware.svg", "2-noise.svg", "3-layers.svg"}


def test_candidates_that_were_trained_twice_have_tables_of_their_own_and_so_has_each_part(run, quick):
    ranked, repeated = run(analysis=KENDALL, only={"part": {"kendall"}})
    assert ranked.headers[:2] == ["E", "fitness"]
    assert {row[1] for row in ranked.rows} == {"baseline", "baseline+R_T", "baseline+R_S", "ste", "proxy accuracy"}
    assert repeated.headers[0] == "trainings" and repeated.rows[0][0] == "2"
    folder = trial("part", "kendall")
    assert len(pd.read_csv(folder / "cells.csv")) == 2 * 2 * 3
    assert pd.read_csv(folder / "reliability.csv")["accuracy_sd"].iloc[0] == pytest.approx(0.01)
    assert figures(folder) == {"kendall.svg"} and not (folder / "table.csv").exists()
    assert [table.title for table in run(analysis=KENDALL, only={"part": {"grid"}})] == ["A tiny study"]
    assert not (trial("part", "grid") / "reliability.csv").exists()
    assert not (TINY / "table.md").exists()  # of the whole study


def test_cells_that_diverge_have_a_result_and_cells_that_raise_run_again(run, quick, monkeypatch, capsys):
    def fails(cell):
        if cell.candidate is not None:
            return {"status": "failed: train: the loss is nan", "metrics": {}}
        if cell.name == GENETIC:
            raise ValueError("a bug")
        return measure(cell)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_cell", fails)
        with pytest.raises(InputError, match=r"^the cell encoding = genetic, seed 0: .* raises ValueError: a bug: mend it"):
            run(analysis=KENDALL)
    assert "encoding = genetic, seed 0: failed: studies/" in capsys.readouterr().err
    assert [(row.n, row.failed) for row in written("table.csv")[:2].itertuples()] == [(1, 1), (2, 0)]
    assert (written("kendall.csv")["failed"] == 1).all() and figures() == {"1-bars.svg"}
    failed = json.loads((TINY / "study.json").read_text())["failed"]
    assert len(failed) == 1 + 12 and failed[0].endswith("raises ValueError: a bug: mend it and run the study again")
    assert failed[1] == "E = 1, candidate = 0, training = 1, seed 0: failed: train: the loss is nan"
    run(analysis=KENDALL)
    assert quick == [GENETIC] and written("table.csv")["failed"][:2].sum() == 0
    before = reports()
    monkeypatch.setattr(study, "run_cell", lambda *_: 1 / 0)
    with pytest.raises(InputError, match=r"and 15 more: .*ZeroDivisionError"):  # no cell has a result: the earlier tables stay
        run(analysis=KENDALL, set={"train.epochs": 3})
    assert reports() == before


def test_a_plot_of_what_no_cell_measured_is_left_out_and_named(run, quick, caplog):
    plots = [{"kind": kind, "y": "val_accuracy"} | x for kind, x in (("bars", {}), ("scatter", {"x": "parameters"}))]
    plots += [{"kind": "scatter", "x": "val_accuracy"}, {"kind": "bars"}]
    run(**PLAIN | {"plots": plots, "metrics": ["test_accuracy", "best_fitness"]})
    assert figures() == {"4-bars.svg"}
    assert caplog.messages == ["left out, no cell has it: best_fitness, val_accuracy"]


def test_cells_that_only_left_out_have_no_figure_and_their_columns_are_empty(run, quick, caplog):
    cells = [{"columns": {"size": "four steps"}, "set": {"network.T": 4}}]
    plots = [{"kind": kind, "where": {"encoding": "genetic"}} for kind in ("hardware", "bars")]
    plots += [{"kind": kind, "group": ["encoding", "size"]} for kind in ("bars", "layers")]
    changes = {"cells": cells, "published": [], "plots": plots, "stages": ["evaluate", "robustness"]}
    table, _ = run(seeds=1, only={"encoding": {"unencoded"}}, **changes)
    assert table.headers[:2] == ["encoding", "size"]
    assert [row[:2] for row in table.rows] == [["unencoded", ""]]
    assert figures(trial("encoding", "unencoded")) == {"3-bars.svg", "4-layers.svg"}
    assert caplog.messages == []


@pytest.mark.slow
def test_cells_that_run_at_the_same_time_give_the_same_bytes(run, monkeypatch):
    monkeypatch.setenv("GEE_COMPILE", "0")
    run(analysis=KENDALL)
    one = reports()
    shutil.rmtree(STUDY_STEPS)
    run(analysis=KENDALL, jobs=2, force=True)
    assert reports() == one


@pytest.mark.slow
def test_a_kept_network_measures_as_its_result_says_and_is_under_dvc(project, run, digits):
    with pytest.raises(InputError, match=r"`dvc --wait-for-lock add models/studies/tiny`: .*not inside of a DVC repository"):
        run(seeds=1, keep=True, published=[])
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
    run(seeds=1, keep=True, published=[])
    folders = sorted((project / "models/studies/tiny").iterdir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == ["genetic-seed0", "unencoded-seed0"]
    for folder in folders:
        result, net = read_sealed(folder / "result.json"), load(folder / "network.safetensors").eval()
        measured = evaluate.run(Params.model_validate(result["params"]), net, load_prepared(digits))[0].model_dump()
        assert {name: result["metrics"][name] for name in measured} == measured
    assert "path: tiny" in (project / "models/studies/tiny.dvc").read_text()


def test_candidates_and_failed_cells_have_no_network_to_keep(project, make_params):
    cells = [Cell("grid", {"a": "x"}, make_params(), (), candidate, key=str(candidate)) for candidate in (0, None)]
    study.keep_networks("tiny", cells, {"0": {"status": "ok"}, "None": {"status": "failed: diverged"}})
    assert not (project / "models").exists()
