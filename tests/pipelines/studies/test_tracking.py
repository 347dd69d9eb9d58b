import dataclasses

import pytest

from pipelines.studies.cell import Cell
from pipelines.studies.tracking import open_study_tracker
from pipelines.tracking.tags import NOTE
from tests.pipelines.tracking.conftest import by_level, client, folder  # noqa: F401 - fixtures

METRICS = {"test_accuracy": 0.5, "parameters": 120, "evolve_seconds": 7.0, "train_seconds": 0.5}
RESULT = {"status": "ok", "metrics": METRICS, "commit": "abc"}


@pytest.fixture(scope="session")
def cells(make_params):
    labels = {"encoding": "genetic", "network": "small", "train.epochs": "few"}
    seeds = [Cell("grid", labels, make_params(base={"seed": seed}), ("evaluate",)) for seed in range(3)]
    return [dataclasses.replace(cell, key=f"key{cell.params.base.seed}") for cell in seeds]


def test_a_study_that_was_started_again_has_one_run_that_ended_well_and_below_it_one_per_cell(
    cells,
    client,  # noqa: F811
    folder,  # noqa: F811
    monkeypatch,
):
    """It failed after two of three cells, then ran to its end."""
    monkeypatch.setenv("GEE_TRACKING", "on")
    first = open_study_tracker("tiny", "digits", cells)
    first.cell(cells[0], RESULT)
    first.cell(cells[1], RESULT | {"status": "failed: the loss is nan", "metrics": {}})
    first.close("FAILED", "no space")
    [study] = by_level(client, "study")
    assert (study.info.status, study.data.tags["gee.error"]) == ("FAILED", "no space")
    second = open_study_tracker("tiny", "digits", cells)
    for cell in cells:
        second.cell(cell, RESULT)
    second.artifact(folder / "params.yaml")
    second.tags({NOTE: "| variant | accuracy |"})
    second.close()
    assert second.address.startswith("http://tracking.example:5000/#/experiments/")
    assert by_level(client, "study") == [study]
    assert (study.info.run_name, study.info.status) == ("study tiny", "FINISHED")
    assert study.data.params == {"study": "tiny", "preset": "digits"}
    assert study.data.tags["mlflow.note.content"] == "| variant | accuracy |"
    assert "gee.error" not in study.data.tags and study.files.keys() == {"/params.yaml"}
    runs = {run.data.params["seed"]: run for run in by_level(client, "cell")}
    assert len(by_level(client, "cell")) == len(runs) == 3
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
    tracker = open_study_tracker("tiny", "digits", cells)
    tracker.cell(cells[0], RESULT)
    tracker.close()
    assert not list(tmp_path.iterdir())
