"""What a study and its cells leave for MLflow. That it gets there: tests/pipelines/tracking."""

import dataclasses

import pytest

from pipelines.studies.cell import Cell
from pipelines.studies.tracking import open_study_tracker
from pipelines.tracking import publish
from pipelines.tracking.folder import Run, read_told

METRICS = {"test_accuracy": 0.5, "parameters": 120.0, "evolve_seconds": 7.0, "train_seconds": 0.5}
RESULT = {"status": "ok", "metrics": METRICS, "commit": "abc"}


@pytest.fixture
def cells(make_params, tmp_path, monkeypatch):
    """Two cells, in a project without MLflow."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(publish, "start", lambda *_: None)
    labels = {"encoding": "genetic", "network": "small", "train.epochs": "few"}
    seeds = [Cell("grid", labels, make_params(base={"seed": seed}), ("evaluate",)) for seed in range(2)]
    return [dataclasses.replace(cell, key=f"key{cell.params.base.seed}") for cell in seeds]


def tracked(cells, *results):
    """The run of a study, and those of the cells that have ``results``."""
    tracker = open_study_tracker("tiny", "digits", cells)
    for cell, result in zip(cells, results, strict=False):
        tracker.cell(cell, result)
    files = sorted((tracker.folder / "children").glob("*.json"))
    return read_told(tracker.folder).own, *(Run.model_validate_json(file.read_bytes()) for file in files)


def test_a_study_that_is_started_again_and_its_cells_are_the_same_runs_and_another_commit_is_another(cells):
    first, second, other = (tracked(cells, result) for result in (RESULT, RESULT, RESULT | {"commit": "def"}))
    assert [run.key for run in first] == [run.key for run in second]
    assert (first[0].key, first[1].key != other[1].key) == (other[0].key, True)
    assert tracked(cells[::-1])[0].key == first[0].key != tracked(cells[:1])[0].key
    assert (first[0].name, first[0].params) == ("study tiny", {"study": "tiny", "preset": "digits"})


def test_every_cell_is_a_run_with_its_keys_and_numbers(cells):
    _, run, failed = tracked(cells, RESULT, RESULT | {"status": "failed: the loss is nan", "metrics": {}})
    assert (run.level, run.name) == ("cell", "genetic, small, few, seed 0")
    assert run.metrics == METRICS and run.ended - run.start == 7_500
    labels = {"encoding": "genetic", "column.train.epochs": "few", "column.network": "small"}
    settings = {"network.n_genes": "6", "train.epochs": "4", "network": run.params["network.name"], "dataset": "digits"}
    assert (labels | settings | {"n_genes": "6", "seed": "0"}).items() <= run.params.items()
    assert "export.opset" in run.params
    assert {"status": "ok", "commit": "abc", "gee.commit": "abc"}.items() <= run.tags.items() and "gee.error" not in run.tags
    assert (run.status, failed.status, failed.ended - failed.start) == ("FINISHED", "FAILED", 0)
    assert failed.tags["status"] == failed.tags["gee.error"] == "failed: the loss is nan"


def test_tracking_that_is_off_tracks_nothing(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_study_tracker("tiny", "digits", cells)
    tracker.cell(cells[0], RESULT)
    tracker.close()
    assert not (tmp_path / ".scratch").exists()
