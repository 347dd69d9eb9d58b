"""The runs of a pipeline in MLflow: what they are called, how long they last, how they are found, and what stops no stage."""

import contextlib
import json
import logging
import os

import psutil
import pytest
from pipelines.tracking.folder import LOG

from pipelines.project import presets
from pipelines.project.params import load_params
from pipelines.project.presets import load_preset
from pipelines.tracking import pipeline_run, publish
from pipelines.tracking import tracker as tracker_module
from pipelines.tracking.experiment_page import EXPERIMENT_TAGS, run_address
from pipelines.tracking.pipeline_run import describe_dataset, origin_tags, pipeline_name
from pipelines.tracking.tracker import Tracker, open_tracker, tracked_execution
from tests.pipelines.tracking.conftest import GONE, KEYS, META, by_level, candidate, folders, publish_all
from tests.project_copy import ROOT
from tests.wait_until import wait_until


@pytest.mark.parametrize(
    ("changes", "experiment", "name"),
    [
        ({}, None, "digits"),
        ({"network.n_genes": 16, "train.lr": 0.02}, None, "digits · g=16 · lr=0.02"),
        ({"network.n_genes": "null"}, "wide-net", "digits · g=null · wide-net"),
        ({f"train.{key}": 1 for key in "abcde"}, None, "digits · a=1 · b=1 · c=1 · 2 more"),
    ],
)
def test_a_pipeline_run_is_called_by_what_differs_from_its_preset(changes, experiment, name, monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if experiment:
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
    assert pipeline_name("digits", changes) == name


def test_the_run_of_a_pipeline_has_the_changes_to_its_preset_by_key(client, folder, monkeypatch):
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")
    params = load_preset("digits").params
    network = params.network.model_copy(update={"n_genes": 16})
    open_tracker("prepare", params.model_copy(update={"network": network})).close()
    (run,) = by_level(client, "pipeline")
    assert (run.info.run_name, run.data.params["changed"]) == ("digits · g=16", "n_genes=16")


def test_an_error_is_cut_and_classes_are_counted_of_the_training_images_alone(client, folder):
    Tracker("train", KEYS).close("FAILED", "data/prepared: missing; " + 600 * "x")
    tags = [run.data.tags["gee.error"] for level in ("stage", "pipeline") for run in by_level(client, level)]
    assert tags == ["data/prepared: missing; " + 476 * "x"] * 2
    profiles = [json.loads(describe_dataset(META, context)["profile"]) for context in ("training", "testing")]
    assert [profile.get("class_counts") for profile in profiles] == [[30, 34], None]


def test_a_flow_that_opens_its_tracker_at_its_end_ends_the_run_that_its_stages_made(client, stage, monkeypatch):
    monkeypatch.setenv("GEE_EXECUTION", pipeline_run.execution_key())
    stage()
    (run,) = by_level(client, "pipeline")
    assert run.info.status == "RUNNING"
    monkeypatch.delenv("GEE_EXECUTION")
    flow = Tracker(None, KEYS)
    flow.tags({"stage.evolve": "ran"})
    flow.close("FAILED")
    assert by_level(client, "pipeline") == [run]
    assert (run.info.status, run.data.tags["stage.evolve"]) == ("FAILED", "ran")
    assert run.info.end_time >= run.info.start_time


def test_the_run_of_a_flow_that_was_killed_before_it_opened_its_tracker_is_ended_with_the_last_below_it(
    client, stage, monkeypatch
):
    monkeypatch.setenv("GEE_EXECUTION", GONE)
    stage()
    publish_all()
    (run,) = by_level(client, "pipeline")
    assert run.info.status == "KILLED"
    below = [child.info for child in client.runs.values() if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    assert run.info.end_time == max(child.end_time for child in below)  # not the time at which it was found


def test_the_lock_of_a_run_has_no_entry_of_a_stage_that_is_at_work(client, folder):
    lock = "stages:\n  prepare:\n    cmd: a\n  train:\n    cmd: b\n    outs:\n    - path: c\n"
    (folder / "dvc.lock").write_text(lock)
    Tracker("train", KEYS).close()
    (pipeline,) = by_level(client, "pipeline")
    assert pipeline.files["/dvc.lock"] == "stages:\n  prepare:\n    cmd: a\n"
    assert (folder / "dvc.lock").read_text() == lock


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (RuntimeError, "FAILED"), (SystemExit, "KILLED")])
def test_the_stages_of_gee_run_are_one_execution_that_ends_as_it_does_and_knows_its_address(
    client, folder, monkeypatch, error, status
):
    monkeypatch.setenv("GEE_TRACKING", "on")
    with contextlib.suppress(RuntimeError, SystemExit), tracked_execution(load_params()) as trackers:
        for name in ("evolve", "train"):
            Tracker(name, KEYS).close()
        (folder / "dvc.lock").write_text("what DVC wrote after the last stage")
        if error:
            raise error
    (pipeline,) = by_level(client, "pipeline")
    assert pipeline.info.status == status and pipeline.data.tags["stage.train"] == "ran"
    assert pipeline.files["/dvc.lock"] == "what DVC wrote after the last stage"
    page = f"experiments/0/runs/{pipeline.info.run_id}?workflowType=machine_learning"
    assert [tracker.address for tracker in trackers] == [f"http://tracking.example:5000/#/{page}"]
    assert "GEE_EXECUTION" not in os.environ and folders() == []


@pytest.mark.parametrize(("epochs", "rows"), [("3", 1), ("4", 2)])
def test_an_execution_goes_on_in_the_run_of_one_that_was_interrupted_with_the_same_settings(
    client, folder, monkeypatch, epochs, rows
):
    with monkeypatch.context() as gone:
        gone.setenv("GEE_EXECUTION", GONE)
        for stage, status in (("evolve", "FINISHED"), ("train", "KILLED")):
            Tracker(stage, KEYS, params={"train.epochs": "3"}).close(status, "stopped" if status == "KILLED" else "")
        publish_all()
    assert [run.info.status for run in by_level(client, "pipeline")] == ["KILLED"]
    Tracker("train", KEYS, params={"train.epochs": epochs}).close()
    pipelines, stages = by_level(client, "pipeline"), by_level(client, "stage")
    assert [run.info.status for run in pipelines] == ["KILLED"] * (rows - 1) + ["FINISHED"]
    assert [run.info.status for run in stages] == ["FINISHED", *["KILLED"] * (rows - 1), "FINISHED"]
    assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {run.info.run_id for run in pipelines}
    assert "gee.error" not in pipelines[-1].data.tags


def test_a_gee_run_in_which_no_stage_ran_is_no_row(client, left, monkeypatch):
    left()
    monkeypatch.setenv("GEE_TRACKING", "on")
    with tracked_execution(load_params()) as trackers:
        pass
    assert (trackers, client.calls) == ([], [])


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("https://user:secret@host.example/mlflow/", "https://host.example/mlflow"),
        ("sqlite:////srv/gee/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_an_address_holds_no_secret_and_that_of_a_file_is_where_mlflow_server_shows_it(uri, server):
    assert run_address(uri, "3", "abc") == f"{server}/#/experiments/3/runs/abc?workflowType=machine_learning"


def test_an_experiment_that_exists_is_described_once_and_keeps_what_people_write(client, folder):
    known = client.do_create_experiment("gee", None)
    for tag, value in {"mlflow.note.content": "ours", "mlflow.sharedViewState.results": "{}"}.items():
        client.do_set_experiment_tag(known, tag, value)  # the view is that of an earlier version
    Tracker(None, KEYS).close()
    assert client.experiments["gee"].tags == EXPERIMENT_TAGS | {"mlflow.note.content": "ours"}
    client.calls.clear()
    Tracker(None, KEYS).close()
    assert "set_experiment_tag" not in client.calls


def test_a_run_tells_its_user_its_command_and_whether_other_files_than_its_own_differ_from_the_commit(tmp_path, monkeypatch):
    git = {"ls-files": "dvc.yaml", "rev-parse": "0123456789", "status": " M train.py"}
    monkeypatch.setattr("pipelines.project.git.git", lambda folder, *words: git[words[0]][: 4 if "--short" in words else None])
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    monkeypatch.setenv("DVC_EXP_NAME", "wide-net")
    tags = origin_tags(tmp_path)
    assert tags.pop("mlflow.source.name")
    assert tags == {
        "mlflow.user": "ada",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "0123456789",
        "gee.commit": "0123-dirty",
        "dvc.experiment": "wide-net",
    }


def test_a_machine_without_git_tracks_all_but_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not [tag for tag in origin_tags(tmp_path) if "commit" in tag]


def test_a_file_that_is_missing_is_told_and_one_that_changes_is_uploaded_as_it_was(client, folder, caplog):
    tracker = Tracker("train", KEYS)
    tracker.artifact(folder / "missing.csv")
    tracker.artifact(folder / "plot.svg", "plots")
    (folder / "plot.svg").write_text("later")
    tracker.close()
    (run,) = by_level(client, "stage")
    assert run.files == {"plots/plot.svg": "<svg/>"}
    assert "missing.csv" in caplog.text


def test_tracking_can_be_turned_off(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_tracker("train", load_params(ROOT / "params.yaml"))
    tracker.child("a", candidate("a"))
    tracker.mark({"a": ({"rank": 1}, {})})
    tracker.metrics({"a": 1.0})
    tracker.artifact(ROOT / "params.yaml")
    tracker.close()
    assert tracker.address is None and list(tmp_path.iterdir()) == []


def test_the_load_of_a_stage_is_a_numbered_curve_of_its_run_that_ends_with_it(client, folder, monkeypatch):
    monkeypatch.setattr(tracker_module, "LOAD_INTERVAL", 0.01)
    tracker = Tracker("train", KEYS)
    tracker.watch()
    wait_until(lambda: (tracker.folder / LOG).read_text().count("system/cpu") >= 3)
    tracker.close()
    (run,) = by_level(client, "stage")
    most = {"cpu_utilization_percentage": 100, "system_memory_usage_percentage": 100}
    for name, limit in (most | {"system_memory_usage_megabytes": psutil.virtual_memory().total / 1e6}).items():
        curve = sorted((step, value) for metric, step, _, value in run.points if metric == f"system/{name}")
        assert [step for step, _ in curve] == list(range(len(curve))) and len(curve) >= 3
        assert all(0 <= value <= limit for _, value in curve)


PASSWORD = "pä5s/w%rd"
URI = "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc"


def test_neither_the_files_nor_a_warning_nor_mlflow_holds_the_password(client, folder, caplog, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setattr(publish, "RETRY", 0.01)
    tracker = Tracker("evolve", {"dataset": URI, "network": "vgg16", "n_genes": 6})
    tracker.params({"path": URI, URI: 1})
    tracker.tags({"note": f"logged in with {PASSWORD}"})
    run = candidate(URI).model_copy(update={"tags": {"status": URI}, "texts": {"log.txt": f"{PASSWORD} {URI}"}})
    tracker.child(URI, run)
    tracker.artifact(folder / "missing hunter22.csv")
    client.is_down = True
    with caplog.at_level(logging.INFO):
        tracker.close("FAILED", f"no answer from {URI}")
    stored = b"".join(path.read_bytes() for path in (folder / ".scratch").rglob("*") if path.is_file())
    client.is_down = False
    publish_all()
    held = str([(run.info, run.data, run.files) for run in client.runs.values()])
    assert b"tracking.example" in stored and "tracking.example" in held
    for secret in ("hunter22", "t0k3n-abc", PASSWORD, "ada:"):
        assert secret.encode() not in stored
        assert secret not in held + caplog.text + "".join(capfd.readouterr())
