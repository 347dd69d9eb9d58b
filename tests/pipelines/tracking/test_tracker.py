import contextlib
import json
import logging
import math
import shutil
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from pipelines.project.params import load_params
from pipelines.runtime.process_tree import process_key
from pipelines.tracking import delivery
from pipelines.tracking.mlflow_writer import RUN_ID
from pipelines.tracking.pipeline_run import execution_key, origin_tags
from pipelines.tracking.tracker import MlflowTracker, NullTracker, Tracker, open_tracker
from tests.pipelines.tracking.conftest import META, wait_open

ROOT = Path(__file__).resolve().parents[3]
KEYS = {"dataset", "network", "n_genes", "variant", "width", "seed"}
GONE = process_key(psutil.Process()).replace(f"/{psutil.Process().pid}/", "/4194303/")


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project folder in which the stages evolve and export have run, by hand, after a run that was left behind."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: GONE)
        MlflowTracker(None, dict.fromkeys(KEYS, "left behind"))._delivery.wait(600)
        patch.undo()
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.setattr(delivery, "LIMIT", 600.0)
        params = load_params(folder / "params.yaml")
        evolve = open_tracker("evolve", params)
        evolve.dataset(META, "training")
        evolve.params({f"p{i}": i for i in range(250)})
        for step in range(3):
            evolve.metrics({"fitness@best": 1.0 - step}, step=step)
        evolve.candidate({"seed": 7}, {"fitness": 0.5}, "gen0-cand0", "ok", {"genotype.json": "{}"}, (time.time(),) * 2)
        evolve.candidate(
            {}, {"fitness": math.nan, "L_ce": 2.0}, "gen0-cand1", "diverged", {"note.txt": "x"}, (time.time(),) * 2
        )
        evolve.winner(["gen0-cand0"], {"gen0-cand0": {"final_fitness": 0.4}})
        evolve.result({"test_accuracy": 0.9}, {"gee.result": "abc"}, f"see {RUN_ID}", {folder / "params.yaml": "figures"})
        evolve.close()
        open_tracker("export", params).close("FAILED")
    return folder


@pytest.fixture
def client(project):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project}/mlflow.db")


@pytest.fixture
def pipeline_name(project):
    params = load_params(project / "params.yaml")
    return f"{params.prepare.dataset} {params.network.name} g={params.network.n_genes} {params.evolve.variant}"


def runs_of(client, query: str = "") -> dict:
    """Stages by their name, other runs by that of the run."""
    experiment = client.get_experiment_by_name("gee")
    found = client.search_runs([experiment.experiment_id], query)
    return {run.data.tags.get("gee.stage") or run.info.run_name: run for run in found}


def test_every_run_on_every_level_can_be_found_by_the_keys(client, project, pipeline_name):
    params = load_params(project / "params.yaml")
    keys = {"dataset": params.prepare.dataset, "n_genes": params.network.n_genes, "seed": params.base.seed}
    found = runs_of(client, " and ".join(f"params.{key} = '{value}'" for key, value in keys.items()))
    assert set(found) == {pipeline_name, "evolve", "export", "gen0-cand0", "gen0-cand1"}
    assert all(set(run.data.params) >= KEYS for run in found.values())


def test_candidates_lie_directly_under_the_stage_and_stages_under_one_pipeline_run(client, pipeline_name):
    runs = runs_of(client)
    below = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert below["gen0-cand0"] == below["gen0-cand1"] == runs["evolve"].info.run_id
    assert below["evolve"] == below["export"] == runs[pipeline_name].info.run_id


def test_a_failed_candidate_is_a_failed_run_without_a_number_for_nan(client):
    run = runs_of(client)["gen0-cand1"]
    assert run.info.status == "FAILED"
    assert run.data.params["status"] == "diverged"
    assert run.data.metrics == {"L_ce": 2.0}
    assert run.data.tags["not_finite"] == "fitness"


def test_text_and_files_of_candidates_are_their_artifacts(client, project):
    runs = runs_of(client)
    files = [[file.path for file in client.list_artifacts(runs[f"gen0-cand{i}"].info.run_id)] for i in (0, 1)]
    assert files == [["genotype.json"], ["note.txt"]]
    assert client.get_experiment_by_name("gee").artifact_location == (project / "mlartifacts").as_uri()


def test_more_parameters_than_the_store_takes_at_once_are_all_kept(client):
    assert {f"p{i}" for i in range(250)} <= set(runs_of(client)["evolve"].data.params)


def test_metrics_with_steps_are_a_curve_and_refused_characters_are_replaced(client):
    history = client.get_metric_history(runs_of(client)["evolve"].info.run_id, "fitness-best")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.0), (2, -1.0)]


def test_a_pipeline_run_tells_what_became_of_its_stages_and_fails_with_one_of_them(client, pipeline_name):
    run = runs_of(client)[pipeline_name]
    assert (run.data.tags["stage.evolve"], run.data.tags["stage.export"]) == ("ran", "failed")
    assert run.info.status == "FAILED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["figures", "params.yaml"]


def test_a_pipeline_run_has_all_parameters_the_dataset_the_result_and_a_note(client, project, pipeline_name):
    run = runs_of(client)[pipeline_name]
    params = load_params(project / "params.yaml")
    assert run.data.params["train.lr"] == str(params.train.lr)
    assert run.data.params["evolve.rescore.top"] == str(params.evolve.rescore.top)
    assert run.data.metrics == {"test_accuracy": 0.9}
    assert (run.data.tags["gee.result"], run.data.tags["mlflow.note.content"]) == ("abc", f"see {run.info.run_id}")
    for level in (run, runs_of(client)["evolve"]):
        (data,) = level.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("digits", META.digest)
        assert json.loads(data.dataset.profile)["class_names"] == ["a", "b"]


def test_the_experiment_is_one_of_model_training_and_says_how_to_filter(client):
    experiment = client.get_experiment_by_name("gee")
    tags = experiment.tags
    assert f"(#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=results&" in tags["mlflow.note.content"]
    assert json.loads(tags["mlflow.sharedViewState.results"])["searchFilter"] == "tags.\"gee.level\" = 'pipeline'"
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "tags.\"gee.level\" = 'candidate'" in tags["mlflow.note.content"]


def test_the_run_of_a_stage_has_the_parameters_of_the_network_so_that_comparing_two_shows_what_differed(client, project):
    found = runs_of(client, "tags.`gee.level` = 'stage'")
    network = load_params(project / "params.yaml").network
    for stage in ("evolve", "export"):
        params = found[stage].data.params
        assert (params["network.T"], params["network.pool"], params["base.device"]) == (str(network.T), network.pool, "auto")
        assert not [name for name in params if name.startswith("train.")]


def test_the_winner_can_be_found(client):
    assert set(runs_of(client, "tags.`gee.winner` = 'true' and metrics.winner = 1")) == {"gen0-cand0"}


def test_a_run_whose_process_is_gone_is_ended_by_the_next_pipeline_run(client):
    run = runs_of(client)["left behind left behind g=left behind left behind"]
    assert run.data.tags["gee.process"] == GONE
    assert run.info.status == "KILLED"


def test_a_stage_joins_the_pipeline_run_that_the_flow_names_and_leaves_its_end_to_the_flow(client, project, monkeypatch):
    monkeypatch.chdir(project)
    flow = MlflowTracker(None, dict.fromkeys(KEYS, "flow"))
    run_id = wait_open(flow)
    monkeypatch.setenv("GEE_EXECUTION", execution_key())
    stage = MlflowTracker("train", dict.fromkeys(KEYS, "flow"))
    stage.close("FAILED")
    assert runs_of(client, f"tags.`mlflow.parentRunId` = '{run_id}'")["train"].info.status == "FAILED"
    before = client.get_run(run_id)
    flow.close()
    assert before.info.status == "RUNNING"
    assert "stage.train" not in before.data.tags
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_store_that_is_away_costs_one_warning_and_nothing_else(monkeypatch, caplog, project):
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, logger="pipelines.tracking"):
        tracker = MlflowTracker("train", dict.fromkeys(KEYS, 1))
        tracker.metrics({"loss": 1.0})
        tracker._delivery.wait(600)
        tracker.close()
    assert len([record for record in caplog.records if record.name == "pipelines.tracking"]) == 1
    assert tracker._writer.run_id is None


def test_a_store_whose_making_was_broken_off_is_made_again_where_git_sees_none_of_it(tmp_path, monkeypatch):
    from pipelines.tracking import mlflow_client

    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    (left := tmp_path / ".scratch/mlflow/.mlflow-killed").mkdir(parents=True)
    (left / "new.db").touch()
    seen = []

    def ends(made, path):
        seen.append(Path(made).parent.parent)
        raise ZeroDivisionError

    uri = mlflow_client.tracking_uri()
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_client.os, "replace", ends)
        with pytest.raises(ZeroDivisionError):
            mlflow_client.connect(uri)
    assert seen == [left.parent] and list(left.parent.iterdir()) == []
    assert mlflow_client.connect(uri).get_experiment_by_name("gee") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [".scratch", "dvc.yaml", "mlflow.db", "params.yaml"]


def test_an_error_of_the_database_is_told_once_in_its_own_words(project, tmp_path, capsys):
    from mlflow.exceptions import MlflowException

    from pipelines.tracking.delivery import reason
    from pipelines.tracking.mlflow_client import connect

    shutil.copy(project / "mlflow.db", tmp_path)
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("another"))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
    with pytest.raises(MlflowException) as raised:
        client.log_metric(run.info.run_id, "accuracy", 0.5)
    assert reason(raised.value) == "OperationalError: no such table: metrics"
    assert "Traceback" not in capsys.readouterr().err  # where MLflow's own logger writes


def test_an_entry_that_the_store_refuses_does_not_stop_the_next(monkeypatch, client, project, caplog):
    monkeypatch.chdir(project)
    tracker = MlflowTracker("evaluate", dict.fromkeys(KEYS, 1))
    tracker.artifact(project / "missing.csv")
    tracker.metrics({"accuracy": 0.5})
    tracker.close()
    assert client.get_run(tracker._writer.run_id).data.metrics == {"accuracy": 0.5}
    assert "missing.csv" in caplog.text


def test_a_machine_without_git_tracks_all_but_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not [tag for tag in origin_tags(tmp_path) if "commit" in tag]


def test_tracking_can_be_turned_off_and_then_every_call_is_there_and_does_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_tracker("train", load_params(ROOT / "params.yaml"))
    assert isinstance(tracker, NullTracker)
    for name in [name for name in vars(Tracker) if not name.startswith("_")]:
        assert getattr(tracker, name)() is None
    assert list(tmp_path.iterdir()) == []
