"""Whole studies of tiny cells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gee_core.checkpoint import load
from gee_core.config import Params
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_object
from pipelines import evaluate
from pipelines.runtime.run_files import Record, read_rows
from pipelines.runtime.run_folder import RunFolder, runs_root
from pipelines.studies import study
from pipelines.studies.plan import Cell, CellResult, Request
from pipelines.studies.reports import OUT
from tests.pipelines.conftest import CPU
from tests.pipelines.studies.conftest import measure

TINY = OUT / "tiny"
PLAIN: dict = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}
GENETIC, UNENCODED = "encoding = genetic, seed 0", "encoding = unencoded, seed 0"


def reports() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in TINY.glob("*.*")}


def figures(folder=TINY):
    return {path.name for path in folder.glob("*.svg")}


def test_a_study_ends_in_means_over_its_seeds_next_to_the_published_numbers(run, quick):
    plots = [{"kind": "line", "rows": "noise", "x": "r", "group": ["encoding"]}, {"kind": "bars"}]
    table = run(plots=plots)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [(row[0], row[1], *row[-2:]) for row in rows[2:]] == [
        ("genetic", "55.00 ± 7.07", "2", "ours"),
        ("unencoded", "55.00 ± 7.07", "2", "ours"),
        ("genetic (published)", "90.00", "", "published: Table 2"),
    ]
    assert table == (TINY / "table.md").read_text() and "`gee study run tiny`" in table
    cells = pd.read_csv(TINY / "cells.csv")
    assert list(cells) == ["encoding", "seed", "status", "test_accuracy", "parameters", "parameter_ratio", "key", "commit"]
    assert len(pd.read_csv(TINY / "noise.csv")) == 4 * 2 * 2  # cells, strengths and draws
    assert figures() == {"1-line.svg", "2-bars.svg"}


def test_only_missing_or_forced_cells_run_and_a_kill_changes_no_byte(run, quick, monkeypatch):
    def is_killed_at_the_second(cell):
        if quick:
            raise KeyboardInterrupt
        return run_cell(cell)

    def kill(**options):
        quick.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(study, "run_cell", is_killed_at_the_second)
            run(seeds=1, **options)
        run(seeds=1)
        assert quick == [GENETIC, UNENCODED]
        assert reports() == whole

    run_cell = study.run_cell
    run(seeds=1)
    whole = reports()
    kill(force=True)
    shutil.rmtree(runs_root())
    kill()
    quick.clear()
    run(seeds=1)
    assert quick == []
    run(seeds=2)
    assert quick == [GENETIC[:-1] + "1", UNENCODED[:-1] + "1"]
    run(seeds=1, force=True, only={"encoding": {"unencoded"}})
    assert quick[2:] == [UNENCODED]


def test_cells_that_differ_in_their_labels_alone_run_once(run, quick):
    labels = [{"label": label, "control": "plain"} for label in "ab"]
    assert "| b " in run(**PLAIN | {"grid": {"name": labels}, "plots": []})
    assert len(quick) == 1


def test_cells_that_diverge_have_a_result_and_cells_that_raise_run_again(run, quick, monkeypatch, capsys):
    def fail(cell):
        if cell.name == UNENCODED:
            return CellResult("failed: train: the loss is nan", {})
        if cell.name == GENETIC:
            raise ValueError("a bug {}")
        return measure(cell)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_cell", fail)
        with pytest.raises(InputError, match=r"^the cell encoding = genetic, seed 0: .* raises ValueError: a bug {}: mend it"):
            run()
    assert "encoding = genetic, seed 0: failed: studies/" in capsys.readouterr().err
    status = pd.read_csv(TINY / "cells.csv")["status"]
    assert status[0].endswith("raises ValueError: a bug {}: mend it and run the study again")
    assert status[1:].tolist() == ["ok", "failed: train: the loss is nan", "ok"]
    assert pd.read_csv(TINY / "table.csv")["failed"][:2].tolist() == [1, 1]
    run()
    assert quick == [GENETIC] and pd.read_csv(TINY / "table.csv")["failed"][:2].tolist() == [0, 1]
    before = reports()
    monkeypatch.setattr(study, "run_cell", lambda cell: 1 / 0)
    with pytest.raises(InputError, match=r"and 3 more: .*ZeroDivisionError"):  # no cell has a result: the earlier tables stay
        run(set={"train.epochs": 3})
    assert reports() == before


def test_an_error_of_a_cell_has_a_remedy(run, monkeypatch):
    bug = compile("1 / 0", os.path.abspath("networks/mine.py"), "exec")

    def fail(cell):
        if cell.name == GENETIC:
            exec(bug)
        Path("x" * 5000).read_text()

    monkeypatch.setattr(study, "run_cell", fail)
    with pytest.raises(InputError, match=r"networks/mine\.py, line 1 raises ZeroDivisionError: division by zero: mend it and"):
        run(seeds=1)
    with pytest.raises(InputError, match=r"file name too long: the path is too long: shorten it"):
        run(**PLAIN)


def test_plots_of_what_no_cell_has_are_left_out(run, quick, caplog):
    cells = [{"columns": {"size": "four steps"}, "set": {"network.T": 4}}]
    plots = [{"kind": "bars", "y": "val_accuracy"}, {"kind": "scatter", "x": "val_accuracy"}]
    plots += [{"kind": "line", "rows": "noise", "x": "strength"}, {"kind": "bars", "rows": "hardware"}]
    plots += [{"kind": "bars", "where": {"encoding": "genetic"}}, {"kind": "bars", "group": ["encoding", "size"]}]
    table = run(seeds=1, only={"encoding": {"unencoded"}}, cells=cells, published=[], plots=plots)
    assert table.splitlines()[2].startswith("| encoding  | size |") and "| unencoded |      |" in table
    assert figures(OUT / Request("tiny", only={"encoding": {"unencoded"}}).folder) == {"6-bars.svg"}
    assert not (TINY / "table.md").exists()  # of the whole study
    assert caplog.messages == ["left out, no cell has it: val_accuracy"]


def test_mlflow_gets_a_run_per_cell_with_its_labels_settings_and_numbers(make_params, tmp_path):
    labels = {"encoding": "genetic", "network": "small", "train.epochs": "few"}
    cells = [Cell(labels, make_params(base={"seed": seed}), ("evaluate",), key=str(seed)) for seed in (0, 1)]
    metrics = {"test_accuracy": 0.5, "evolve_seconds": 7.0, "train_seconds": 0.5}
    results = {"0": CellResult("ok", metrics, "abc"), "1": CellResult("failed: the loss is nan", {}, "abc")}
    run = RunFolder(tmp_path, Record(level="study", store="sqlite:///x.db", params={"study": "tiny"}))
    for _ in range(2):  # the second time they are there
        study.track_cells(run, cells, results)
    good, failed = read_rows(tmp_path)
    assert (good["level"], good["status"], good["name"]) == ("cell", "FINISHED", "genetic, small, few, seed 0")
    assert good["metrics"] == metrics and good["time"] - good["start"] == 7_500
    wanted = {"study": "tiny", "encoding": "genetic", "column.network": "small", "column.train.epochs": "few", "seed": "0"}
    wanted |= {"dataset": "digits", "network.n_genes": "6", "train.epochs": "4", "export.genes": "None"}
    assert {key: good["params"][key] for key in wanted} == wanted
    assert good["tags"] == {"status": "ok", "commit": "abc", "gee.commit": "abc"}
    assert failed["status"] == "FAILED" and failed["tags"]["status"] == failed["tags"]["gee.error"] == "failed: the loss is nan"


@pytest.mark.slow
def test_results_depend_neither_on_the_number_of_jobs_nor_on_the_engine(run, monkeypatch):
    from tests.pipelines.engines.test_dask import cluster_of

    monkeypatch.setenv("GEE_COMPILE", "0")
    run()
    one = reports()
    shutil.rmtree(runs_root())
    run(jobs=2)
    assert reports() == one
    with cluster_of(2) as cluster:
        monkeypatch.setenv("GEE_ENGINE", "dask")
        monkeypatch.setenv("GEE_DASK", cluster.scheduler_address)
        run(jobs=None, force=True)
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
        result, net = read_json_object(folder / "result.json"), load(folder / "network.safetensors").eval()
        measured = evaluate.run(Params.model_validate(result["params"]), net, load_prepared(digits), CPU)[0].model_dump()
        assert {name: result["metrics"][name] for name in measured} == measured
    assert "path: tiny" in (project / "models/studies/tiny.dvc").read_text()
