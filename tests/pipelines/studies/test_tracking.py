import dataclasses

import pytest

from pipelines.studies.cell import Cell
from pipelines.studies.tracking import open_study_tracker
from pipelines.tracking import publish
from pipelines.tracking.folder import tracking_root
from pipelines.tracking.publish import Publisher
from pipelines.tracking.tags import NOTE

METRICS = {"test_accuracy": 0.5, "parameters": 120, "evolve_seconds": 7.0, "train_seconds": 0.5}
RESULT = {"status": "ok", "metrics": METRICS, "commit": "abc"}


@pytest.fixture(scope="session")
def cells(make_params):
    labels = {"encoding": "genetic", "network": "small", "train.epochs": "few"}
    seeds = [Cell("grid", labels, make_params(base={"seed": seed}), ("evaluate",)) for seed in range(3)]
    return [dataclasses.replace(cell, key=f"key{cell.params.base.seed}") for cell in seeds]


@pytest.fixture(scope="session")
def client(cells, tmp_path_factory):
    """A store in which a study of three cells failed after two, then ran to its end."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.setattr(publish, "start", lambda *_: None)
        wait = publish.wait
        patch.setattr(publish, "wait", lambda *about: (Publisher(tracking_root()).update(), wait(*about))[1])
        first = open_study_tracker("tiny", "digits", cells)
        first.cell(cells[0], RESULT)
        first.cell(cells[1], RESULT | {"status": "failed: the loss is nan", "metrics": {}})
        first.close("FAILED", "no space")
        second = open_study_tracker("tiny", "digits", cells)
        for cell in cells:
            second.cell(cell, RESULT)
        second.artifact(folder / "params.yaml")
        second.tags({NOTE: "| variant | accuracy |"})
        second.close()
        assert second.address.startswith("http://127.0.0.1:5000/#/experiments/")
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(client, level):
    experiment = client.get_experiment_by_name("gee").experiment_id
    return client.search_runs([experiment], f"tags.`gee.level` = '{level}'")


@pytest.mark.slow
def test_a_study_that_was_started_again_has_one_run_that_ended_well(client):
    [study] = runs(client, "study")
    assert study.info.run_name == "study tiny"
    assert study.info.status == "FINISHED"
    assert study.data.params == {"study": "tiny", "preset": "digits"}
    assert study.data.tags["mlflow.note.content"] == "| variant | accuracy |"
    assert "gee.error" not in study.data.tags  # of the first attempt
    assert [file.path for file in client.list_artifacts(study.info.run_id)] == ["params.yaml"]


@pytest.mark.slow
def test_every_cell_has_one_run_below_it_with_its_keys_and_numbers(client):
    [study] = runs(client, "study")
    found = {run.data.params["seed"]: run for run in runs(client, "cell")}
    assert len(runs(client, "cell")) == len(found) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {study.info.run_id}
    run = found["0"]
    assert run.data.metrics == METRICS
    assert run.info.end_time - run.info.start_time >= 7_499
    assert run.data.params["encoding"] == "genetic"
    assert run.data.params["network.n_genes"] == "6"
    assert run.data.params["train.epochs"] == "4"
    assert (run.data.params["column.train.epochs"], run.data.params["column.network"]) == ("few", "small")
    assert run.data.params["network"] == run.data.params["network.name"]
    assert (run.data.params["dataset"], run.data.params["n_genes"]) == ("digits", "6")
    assert "export.genes" in run.data.params
    assert [found[seed].info.status for seed in "012"] == ["FINISHED", "FAILED", "FINISHED"]
    assert found["1"].data.tags["status"] == found["1"].data.tags["gee.error"] == "failed: the loss is nan"
    assert found["0"].data.tags["commit"] == found["0"].data.tags["gee.commit"] == "abc"
    assert "gee.error" not in found["0"].data.tags


def test_tracking_that_is_off_tracks_nothing(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("GEE_TRACKING", "off")
    monkeypatch.chdir(tmp_path)
    tracker = open_study_tracker("tiny", "digits", cells)
    tracker.cell(cells[0], RESULT)
    tracker.close()
    assert not list(tmp_path.iterdir())
