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
from gee_core.errors import DivergedError, InputError
from gee_core.storage.json_object import read_sealed
from pipelines import evaluate, train
from pipelines.engines import candidates
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import study
from pipelines.studies.cell import Cell, Request
from pipelines.studies.reports import OUT
from pipelines.studies.study import run_study
from pipelines.studies.tracking import StudyTracker
from tests.pipelines.studies.conftest import Ran, measure

REPORTS = ["cells.csv", "table.csv", "table.md", "study.json", "1-bars.svg"]
PLAIN: dict = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}
KENDALL = {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1]}


class KilledAfterFirst(Ran):
    def done(self, cell, result):
        super().done(cell, result)
        raise KeyboardInterrupt


def reports(names=REPORTS):
    return {name: (OUT / "tiny" / name).read_bytes() for name in names}


def written(name):
    return pd.read_csv(OUT / "tiny" / name)


def figures():
    return {path.name for path in (OUT / "tiny").glob("*.svg")}


def trial(column, label):
    """The folder of the study's trial with these cells alone."""
    return OUT / Request("tiny", only={column: {label}}).folder


def test_a_study_ends_in_means_over_its_seeds_next_to_the_published_numbers(run, quick):
    [table] = run()
    assert [(row[0], row[-2], row[-1]) for row in table.rows] == [
        ("genetic", "2", "ours"),
        ("unencoded", "2", "ours"),
        ("genetic", "", "published: Table 2"),
    ]
    cells, row = written("cells.csv"), written("table.csv").iloc[0]
    measured = cells[cells["encoding"] == "genetic"]["test_accuracy"]
    assert row["test_accuracy"] == pytest.approx(measured.mean())
    assert row["test_accuracy_sd"] == pytest.approx(measured.std(ddof=1))
    about = json.loads((OUT / "tiny/study.json").read_text())
    assert about["images"] == {"train": 64, "holdout": 16, "test": 24}
    assert about["command"] == "gee study run tiny"
    assert (about["cells"], about["seeds"], about["failed"]) == (4, [0, 1], [])
    page = (OUT / "tiny/index.html").read_text()
    assert page.split("title>")[1] == "A tiny study – digits; vgg16 × 0.125; 2 epochs; n = 2</"
    assert page.count("<svg") == 1 and ">Table 2" not in page and "published: Table 2" in page


def test_a_study_that_was_killed_runs_only_what_is_missing_and_ends_in_the_same_bytes(run):
    run(seeds=1)
    whole, cells = reports(), written("cells.csv")
    genetic, unencoded = cells["parameters"]
    assert cells["parameter_ratio"].tolist() == pytest.approx([genetic / unencoded, 1])
    shutil.rmtree(OUT)
    shutil.rmtree(STUDY_STEPS)
    with pytest.raises(KeyboardInterrupt):
        run(first := KilledAfterFirst(), seeds=1)
    run(rest := Ran(), seeds=1)
    assert len(first.cells) == len(rest.cells) == len(rest.missing) == 1
    assert set(first.cells) != set(rest.cells)
    assert reports() == whole


def test_a_finished_study_runs_nothing_and_a_further_seed_or_force_only_the_cells_asked_for(run, quick):
    run(seeds=1)
    run(again := Ran(), seeds=1)
    run(more := Ran(), seeds=2)
    assert again.cells == []
    assert more.cells == ["encoding = genetic, seed 1", "encoding = unencoded, seed 1"]
    run(seeds=1)
    before, whole = {path: path.stat().st_mtime_ns for path in (OUT / "tiny/cells").iterdir()}, reports()
    run(again := Ran(), seeds=1, force=True, only={"encoding": {"unencoded"}})
    assert again.cells == again.missing == ["encoding = unencoded, seed 0"]
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1
    with pytest.raises(KeyboardInterrupt):
        run(KilledAfterFirst(), seeds=1, force=True)
    run(rest := Ran(), seeds=1)
    assert (len(rest.cells), reports()) == (1, whole)


def test_cells_with_the_same_search_and_training_share_them(run, monkeypatch):
    calls = []
    for module, name in ((candidates, "_timed_score"), (train, "run")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *rest, real=real, name=name, **more: calls.append(name) or real(*rest, **more))
    domains = {"robustness.domain": ["normalised", "image"]}
    plots = [{"kind": kind, "group": ["robustness.domain"]} for kind in ("noise", "layers")]
    run(seeds=1, grid=domains, stages=["evaluate", "robustness"], metrics=["noise_accuracy"], plots=plots, published=[])
    assert (calls, len(written("cells.csv"))) == (["_timed_score"] * 3 + ["run"], 2)
    assert written("cells.csv")["noise_accuracy"].notna().all()
    assert written("noise.csv").groupby("robustness.domain").size().tolist() == [4, 4]  # two strengths, two draws
    assert (written("layers.csv")["decode_macs"] > 0).sum() == 2 * 7  # all but the stem and the head
    assert figures() == {"1-noise.svg", "2-layers.svg"}


def test_cells_that_differ_in_their_labels_alone_run_once_and_are_all_tracked(run, quick, monkeypatch):
    tracked, tracker = [], StudyTracker()
    tracker.cell = lambda cell, result: tracked.append(cell.columns["name"])
    monkeypatch.setattr("pipelines.studies.study.open_study_tracker", lambda *_: tracker)
    run(ran := Ran(), **PLAIN | {"grid": {"name": [{"label": label, "control": "plain"} for label in "ab"]}, "plots": []})
    assert (len(ran.cells), tracked) == (1, ["a", "b"])


def test_defects_of_hardware_are_compared_in_a_table_of_their_own(run, quick):
    _, table = run(stages=["evaluate", "robustness"], plots=[{"kind": "hardware", "group": ["encoding"]}])
    assert table.headers == ["defect", "strength", "of it", "genetic", "unencoded", "source"]
    assert [(row[0], row[1]) for row in table.rows] == [
        ("Noise on weights", "0"),
        ("Noise on weights", "1"),
        ("Noise on genes", "0.5"),
    ]
    assert table.rows[2][4] == ""  # an unencoded network has no genes
    assert table.rows[0][3:5] == ["55.00 ± 7.07"] * 2
    assert "## Test accuracy (%) under the defects of hardware" in (OUT / "tiny/table.md").read_text()
    assert len(written("hardware.csv")) == 2 * 3 + 2 * 2
    assert figures() == {"1-hardware.svg"}


def test_kendalls_tau_is_taken_over_candidates_that_were_each_trained_in_full(run):
    _, table = run(**PLAIN, analysis=KENDALL | {"times_proxy_epochs": [1, 2]})
    assert table.headers[:2] == ["E", "fitness"]
    assert {row[1] for row in table.rows} == {"baseline", "baseline+R_T", "baseline+R_S", "ste", "proxy accuracy"}
    cells = written("cells.csv")
    one, two = (cells[(cells["part"] == "kendall") & (cells["E"] == E)].set_index("candidate") for E in (1, 2))
    assert len(one) == len(two) == 3
    assert (one["test_loss"] == two["test_loss"]).all()  # the same wirings, trained in full
    assert (one["L_ce"] != two["L_ce"]).all()  # scored after one and after two epochs
    assert one["test_loss"].nunique() == 3


def test_the_agreement_of_two_trainings_is_a_table_and_each_part_of_a_study_has_tables(run, quick):
    analysis = KENDALL | {"trainings": 2, "seeds": 1}
    ranked, repeated = run(analysis=analysis, only={"part": {"kendall"}})
    assert ranked.headers[:2] == ["E", "fitness"]
    assert repeated.headers[0] == "trainings" and repeated.rows[0][0] == "2"
    assert pd.read_csv(trial("part", "kendall") / "reliability.csv")["accuracy_sd"].iloc[0] == pytest.approx(0.01)
    assert not (trial("part", "kendall") / "table.csv").exists()
    assert [table.title for table in run(analysis=analysis, only={"part": {"grid"}})] == ["A tiny study"]
    assert not (trial("part", "grid") / "reliability.csv").exists()
    assert not (OUT / "tiny/table.md").exists()  # of the whole study


def test_a_training_that_diverges_fails_its_cell_and_not_the_study(run, monkeypatch):
    def diverges(params, *rest):
        raise DivergedError("train: the training loss is nan")

    monkeypatch.setattr(train, "run", diverges)
    grid, ranked = run(**PLAIN, analysis=KENDALL)
    assert {row[table.headers.index("failed")] for table in (grid, ranked) for row in table.rows} == {"1"}
    failed = json.loads((OUT / "tiny/study.json").read_text())["failed"]
    assert (len(failed), failed[0]) == (4, "encoding = unencoded, seed 0: failed: train: the training loss is nan")
    assert not figures()
    run(again := Ran(), **PLAIN, analysis=KENDALL)
    assert again.missing == []


def test_cells_that_raise_are_failures_in_the_tables_of_the_others_until_they_have_run(run, quick, monkeypatch):
    def raises_for_some(cell, notify):
        if cell.candidate is not None or (cell.columns["encoding"] == "genetic" and cell.params.base.seed == 1):
            raise ValueError("a bug")
        return measure(cell, notify)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_cell", raises_for_some)
        with pytest.raises(InputError, match=r"encoding = genetic, seed 1 and 6 more: .* raises ValueError: a bug"):
            run(first := Ran(), analysis=KENDALL)
    assert first.lines == [f"tables of the finished cells  {(OUT / 'tiny').resolve()}"]
    assert [(row.n, row.failed) for row in written("table.csv")[:2].itertuples()] == [(1, 1), (2, 0)]
    failed = json.loads((OUT / "tiny/study.json").read_text())["failed"]
    assert len(failed) == 7 and failed[0].endswith("raises ValueError: a bug: mend it and run the study again")
    run(again := Ran(), analysis=KENDALL)
    assert (len(again.missing), again.lines) == (7, [])
    assert written("table.csv")["failed"][:2].sum() == 0
    before = {path: path.read_bytes() for path in (OUT / "tiny").glob("*.*")}
    monkeypatch.setattr(study, "run_cell", lambda *_: 1 / 0)
    with pytest.raises(InputError, match="ZeroDivisionError"):  # no cell has a result: the earlier tables stay
        run(analysis=KENDALL, set={"train.epochs": 3})
    assert {path: path.read_bytes() for path in (OUT / "tiny").glob("*.*")} == before


def test_a_plot_of_what_no_cell_measured_is_left_out_and_named(run, quick, caplog):
    plots = [{"kind": kind, "y": "val_accuracy"} | x for kind, x in (("bars", {}), ("scatter", {"x": "parameters"}))]
    plots += [{"kind": "scatter", "x": "val_accuracy"}, {"kind": "bars"}, {"kind": "noise"}]
    run(**PLAIN | {"plots": plots, "stages": ["evaluate", "robustness"], "metrics": ["test_accuracy", "val_accuracy"]})
    assert figures() == {"4-bars.svg"}
    assert caplog.messages == ["left out, no cell has it: val_accuracy, noise"]


def test_cells_that_only_left_out_have_no_figure_and_their_columns_are_empty(run, quick):
    cells = [{"columns": {"size": "four steps"}, "set": {"network.T": 4}}]
    plots = [{"kind": kind, "where": {"encoding": "genetic"}} for kind in ("hardware", "bars")]
    plots += [{"kind": kind, "group": ["encoding", "size"]} for kind in ("bars", "layers")]
    changes = {"cells": cells, "published": [], "plots": plots, "stages": ["evaluate", "robustness"]}
    table, _ = run(named := Ran(), seeds=1, only={"encoding": {"unencoded"}}, **changes)
    assert table.headers[:2] == ["encoding", "size"]
    assert [row[:2] for row in table.rows] == [["unencoded", ""]]
    assert {path.name for path in trial("encoding", "unencoded").glob("*.svg")} == {"3-bars.svg", "4-layers.svg"}
    assert named.lines == []


@pytest.mark.slow
def test_cells_that_run_at_the_same_time_give_the_same_bytes(run, monkeypatch):
    monkeypatch.setenv("GEE_COMPILE", "0")
    run(analysis=KENDALL)
    one = reports()
    shutil.rmtree(STUDY_STEPS)
    run_study(Request("tiny"), Ran(), jobs=2, force=True)
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
    results = {"0": {"status": "ok"}, "None": {"status": "failed: diverged"}}
    study.keep_networks("tiny", cells, results, Ran())
    assert not (project / "models").exists()
