import dataclasses

import pytest

from pipelines.runtime.run_folder import runs_root
from pipelines.studies.cell import Cell
from pipelines.studies.tracking import cell_row, open_study_run
from pipelines.tracking.tags import NOTE
from tests.pipelines.tracking.conftest import empty_store, folder, store  # noqa: F401 - fixtures

METRICS = {"test_accuracy": 0.5, "parameters": 120, "evolve_seconds": 7.0, "train_seconds": 0.5}
RESULT = {"status": "ok", "metrics": METRICS, "commit": "abc"}


@pytest.fixture(scope="session")
def cells(make_params):
    labels = {"encoding": "genetic", "network": "small", "train.epochs": "few"}
    seeds = [Cell("grid", labels, make_params(base={"seed": seed}), ("evaluate",)) for seed in range(3)]
    return [dataclasses.replace(cell, key=f"key{cell.params.base.seed}") for cell in seeds]


def test_a_study_that_was_started_again_has_one_run_and_one_per_cell(cells, store, folder):  # noqa: F811
    """It failed after two of three cells, then ran to its end."""
    first = open_study_run("tiny", "digits", cells)
    first.run.child(cell_row(cells[0], RESULT, first.run))
    first.run.child(cell_row(cells[1], RESULT | {"status": "failed: the loss is nan", "metrics": {}}, first.run))
    first.close("FAILED", "no space")
    [study] = store.runs("study")
    assert (study.info.status, study.data.tags["gee.error"]) == ("FAILED", "no space")
    second = open_study_run("tiny", "digits", cells)
    for cell in cells:
        second.run.child(cell_row(cell, RESULT, second.run))
    second.run.artifact(folder / "params.yaml")
    second.run.tags({NOTE: "| variant | accuracy |"})
    second.close("FINISHED")
    assert second.address.startswith("http://127.0.0.1:5000/#/experiments/")
    [study] = store.runs("study")
    assert (study.info.run_name, study.info.status) == ("study tiny", "FINISHED")
    assert study.data.params == {"study": "tiny", "preset": "digits"}
    assert study.data.tags["mlflow.note.content"] == "| variant | accuracy |"
    assert "gee.error" not in study.data.tags and store.files(study) == ["params.yaml"]
    runs = {run.data.params["seed"]: run for run in store.runs("cell")}
    assert len(store.runs("cell")) == len(runs) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {study.info.run_id}
    run = runs["0"]
    assert run.data.metrics == METRICS
    assert run.info.end_time - run.info.start_time == 7_500
    assert run.data.params["encoding"] == "genetic"
    assert run.data.params["network.n_genes"] == "6"
    assert run.data.params["train.epochs"] == "4"
    assert (run.data.params["column.train.epochs"], run.data.params["column.network"]) == ("few", "small")
    assert run.data.params["network"] == run.data.params["network.name"]
    assert (run.data.params["dataset"], run.data.params["n_genes"]) == ("digits", "6")
    assert "export.genes" in run.data.params
    assert [runs[seed].info.status for seed in "012"] == ["FINISHED", "FAILED", "FINISHED"]
    assert runs["1"].data.tags["status"] == runs["1"].data.tags["gee.error"] == "failed: the loss is nan"
    assert run.data.tags["commit"] == run.data.tags["gee.commit"] == "abc" and "gee.error" not in run.data.tags


def test_tracking_that_is_off_tracks_nothing(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("GEE_TRACKING", "off")
    monkeypatch.chdir(tmp_path)
    study = open_study_run("tiny", "digits", cells)
    study.run.child(cell_row(cells[0], RESULT, study.run))
    study.close("FINISHED")
    assert not runs_root().exists()
