"""The runs of a pipeline in MLflow: what they are called, how they are found again, and what stops no stage."""

import contextlib
import json
import logging
import os

import pytest

from pipelines.project import presets
from pipelines.project.params import load_params
from pipelines.project.presets import load_preset
from pipelines.runtime.run_files import waiting_folders
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking.experiment_page import EXPERIMENT_TAGS, run_address
from pipelines.tracking.mlflow_client import find_experiment
from pipelines.tracking.pipeline_run import EXECUTION, describe_datasets, described, origin_tags, pipeline_name
from pipelines.tracking.tracker import open_execution, open_stage, tracked_execution
from tests.pipelines.tracking.conftest import GONE, META, as_gone, candidate, names_of, publish_all
from tests.project_copy import ROOT


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


def test_the_run_of_a_pipeline_has_the_changes_to_its_preset_by_key(folder, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")
    params = load_preset("digits").params
    network = params.network.model_copy(update={"n_genes": 16})
    record = open_execution(params.model_copy(update={"network": network})).run.record
    assert (record.name, record.params["changed"], record.params["n_genes"]) == ("digits · g=16", "n_genes=16", "16")
    folder = params.prepare.model_copy(update={"dataset": "folder", "name": "birds"})
    assert described(params.model_copy(update={"prepare": folder}))[0] == "birds · digits"


def test_classes_are_counted_of_the_training_images_alone():
    described = describe_datasets(META, "training", "testing")
    assert [json.loads(dataset["profile"]).get("class_counts") for dataset in described.values()] == [[30, 34], None]


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (RuntimeError, "FAILED"), (SystemExit, "KILLED")])
def test_the_stages_of_gee_run_are_one_execution_that_ends_as_it_does(store, folder, error, status):
    params = load_params()
    with contextlib.suppress(RuntimeError, SystemExit), tracked_execution(params) as tracked:
        for name in ("evolve", "train"):
            stage = open_stage(name, params)
            with stage.run.at_work_in(runs_root() / f"{name}-key"):
                stage.run.note({"a": 1})
            stage.close("FINISHED")
            assert stage.execution.run.record.status is None
        (folder / "dvc.lock").write_text("what DVC wrote after the last stage")
        if error:
            raise error
    (pipeline,) = store.runs("pipeline")
    assert pipeline.info.status == status and pipeline.data.tags["stage.train"] == "ran"
    assert {run.data.tags["mlflow.parentRunId"] for run in store.runs("stage")} == {pipeline.info.run_id}
    (lock,) = [path for path in (folder / "mlartifacts").rglob("dvc.lock")]
    assert lock.read_text() == "what DVC wrote after the last stage"
    page = f"experiments/1/runs/{pipeline.info.run_id}?workflowType=machine_learning"
    assert tracked.execution.address == f"http://127.0.0.1:5000/#/{page}"
    assert EXECUTION not in os.environ and waiting_folders(runs_root()) == {}


@pytest.mark.parametrize(("epochs", "rows"), [(4, 1), (5, 2)])
def test_an_execution_goes_on_in_the_run_of_an_interrupted_one_with_its_settings(store, make_params, monkeypatch, epochs, rows):
    def interrupt():
        monkeypatch.setenv(EXECUTION, f"{GONE}1")
        for name, status in (("evolve", "FINISHED"), ("train", "KILLED")):
            stage = open_stage(name, make_params())
            with stage.run.at_work_in(runs_root() / f"{name}-key"):
                stage.run.note({"a": 1})
            stage.close(status, "stopped" if status == "KILLED" else "")
        monkeypatch.delenv(EXECUTION)

    as_gone(monkeypatch, interrupt)
    publish_all()
    assert names_of(store.runs("pipeline")) == {"digits": "KILLED"}
    stage = open_stage("train", make_params(train={"epochs": epochs}))
    with stage.run.at_work_in(runs_root() / f"train-key{rows}"):
        stage.run.note({"a": 1})
    stage.close("FINISHED")
    pipelines, stages = store.runs("pipeline"), store.runs("stage")
    assert [run.info.status for run in pipelines] == ["KILLED"] * (rows - 1) + ["FINISHED"]
    assert [run.info.status for run in stages] == ["FINISHED", *["KILLED"] * (rows - 1), "FINISHED"]
    assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {run.info.run_id for run in pipelines}
    assert "gee.error" not in pipelines[-1].data.tags


def test_a_gee_run_in_which_no_stage_ran_is_no_row(store, make_params):
    with tracked_execution(make_params()) as tracked:
        pass
    assert (tracked.execution, store.calls, list(runs_root().parent.glob("*"))) == (None, [], [])


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("https://user:secret@host.example/mlflow/", "https://host.example/mlflow"),
        ("sqlite:////srv/gee/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_an_address_holds_no_secret_and_that_of_a_file_is_of_a_server(uri, server):
    assert run_address(uri, "3", "abc") == f"{server}/#/experiments/3/runs/abc?workflowType=machine_learning"


def test_an_experiment_that_exists_is_described_once_and_keeps_what_people_write(store):
    known = store.create_experiment("gee", None)
    for tag, value in {"mlflow.note.content": "ours", "mlflow.sharedViewState.results": "{}"}.items():
        store.set_experiment_tag(known, tag, value)  # the view is that of an earlier version
    assert find_experiment(store, "gee", "sqlite:") == known
    assert store.get_experiment_by_name("gee").tags == EXPERIMENT_TAGS | {"mlflow.note.content": "ours"}
    store.calls.clear()
    find_experiment(store, "gee", "sqlite:")
    assert "set_experiment_tag" not in store.calls


def test_a_run_has_its_user_its_command_and_whether_its_files_differ(tmp_path, monkeypatch):
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


def test_a_file_that_is_missing_is_told_and_one_that_changes_is_kept_as_it_was(folder, make_params, caplog):
    run = open_stage("report", make_params()).run
    run.artifact(folder / "missing.csv")
    run.artifact(folder / "plot.svg", "plots")
    (folder / "plot.svg").write_text("later")
    assert (run.path / "files/upload/plots/plot.svg").read_text() == "<svg/>"
    assert "missing.csv" in caplog.text


@pytest.mark.parametrize("writes", [True, False], ids=["off", "not the first process"])
def test_what_is_not_tracked_is_written_nowhere(make_params, monkeypatch, tmp_path, writes):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off" if writes else "on")
    stage = open_stage("report", make_params(), writes)
    stage.run.child(candidate("a"))
    stage.run.note(metrics={"a": 1.0})
    stage.run.artifact(ROOT / "params.yaml")
    stage.close("FINISHED")
    assert stage.execution.address is None and list(tmp_path.iterdir()) == []


PASSWORD = "pä5s/w%rd"
URI = "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc"


def test_neither_the_files_nor_a_warning_nor_mlflow_holds_the_password(store, folder, make_params, caplog, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    stage = open_stage("report", make_params())
    stage.run.note({"path": URI, URI: 1}, tags={"note": f"logged in with {PASSWORD}"})
    row = candidate("a")
    row.tags, row.texts = {"status": URI}, {"log.txt": f"{PASSWORD} {URI}"}
    stage.run.child(row)
    stage.run.artifact(folder / "missing hunter22.csv")
    store.is_down = True
    with caplog.at_level(logging.INFO):
        stage.close("FAILED", f"no answer from {URI}")
    store.is_down = False
    publish_all()
    stored = b"".join(path.read_bytes() for path in (folder / ".scratch").rglob("*") if path.is_file())
    held = str(store.state())
    assert b"tracking.example" in stored and "tracking.example" in held
    for secret in ("hunter22", "t0k3n-abc", PASSWORD, "ada:"):
        assert secret.encode() not in stored
        assert secret not in held + caplog.text + "".join(capfd.readouterr())
