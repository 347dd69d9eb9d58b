import contextlib
import json
import math
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from pipelines.project.params import load_params
from pipelines.tracking import drain_process, mlflow_client
from pipelines.tracking.mlflow_writer import RUN_ID
from pipelines.tracking.outbox import Outbox
from pipelines.tracking.pipeline_run import origin_tags
from pipelines.tracking.tracker import Tracker, open_tracker
from tests.pipelines.tracking.conftest import GONE, META, by_level, drain

ROOT = Path(__file__).resolve().parents[3]
KEYS = {"dataset", "network", "n_genes", "variant", "width", "seed"}


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project folder in which the stages evolve and export have run, by hand, after a run that was left behind."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.setattr(drain_process, "start", lambda root: None)
        patch.setattr(drain_process, "wait", lambda *_: None)
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: GONE)
            Tracker("train", dict.fromkeys(KEYS, "left behind"), None, {}, "", "left behind").close()
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
        drain()
    return folder


@pytest.fixture
def store(project):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project}/mlflow.db")


@pytest.fixture
def pipeline_name(project):
    params = load_params(project / "params.yaml")
    return f"{params.prepare.dataset} {params.network.name} g={params.network.n_genes} {params.evolve.variant}"


def runs_of(store, query: str = "") -> dict:
    """Stages by their name, other runs by that of the run."""
    experiment = store.get_experiment_by_name("gee")
    found = store.search_runs([experiment.experiment_id], query)
    return {run.data.tags.get("gee.stage") or run.info.run_name: run for run in found}


def test_every_run_on_every_level_can_be_found_by_the_keys(store, project, pipeline_name):
    params = load_params(project / "params.yaml")
    keys = {"dataset": params.prepare.dataset, "n_genes": params.network.n_genes, "seed": params.base.seed}
    found = runs_of(store, " and ".join(f"params.{key} = '{value}'" for key, value in keys.items()))
    assert set(found) == {pipeline_name, "evolve", "export", "gen0-cand0", "gen0-cand1"}
    assert all(set(run.data.params) >= KEYS for run in found.values())


def test_candidates_lie_directly_under_the_stage_and_stages_under_one_pipeline_run(store, pipeline_name):
    runs = runs_of(store)
    below = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert below["gen0-cand0"] == below["gen0-cand1"] == runs["evolve"].info.run_id
    assert below["evolve"] == below["export"] == runs[pipeline_name].info.run_id


def test_a_failed_candidate_is_a_failed_run_without_a_number_for_nan(store):
    run = runs_of(store)["gen0-cand1"]
    assert run.info.status == "FAILED"
    assert run.data.params["status"] == "diverged"
    assert run.data.metrics == {"L_ce": 2.0}
    assert run.data.tags["not_finite"] == "fitness"


def test_text_and_files_of_candidates_are_their_artifacts(store, project):
    runs = runs_of(store)
    files = [[file.path for file in store.list_artifacts(runs[f"gen0-cand{i}"].info.run_id)] for i in (0, 1)]
    assert files == [["genotype.json"], ["note.txt"]]
    assert store.get_experiment_by_name("gee").artifact_location == (project / "mlartifacts").as_uri()


def test_more_parameters_than_the_store_takes_at_once_are_all_kept(store):
    assert {f"p{i}" for i in range(250)} <= set(runs_of(store)["evolve"].data.params)


def test_metrics_with_steps_are_a_curve_and_refused_characters_are_replaced(store):
    history = store.get_metric_history(runs_of(store)["evolve"].info.run_id, "fitness-best")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.0), (2, -1.0)]


def test_a_pipeline_run_tells_what_became_of_its_stages_and_fails_with_one_of_them(store, pipeline_name):
    run = runs_of(store)[pipeline_name]
    assert (run.data.tags["stage.evolve"], run.data.tags["stage.export"]) == ("ran", "failed")
    assert run.info.status == "FAILED"
    assert [file.path for file in store.list_artifacts(run.info.run_id)] == ["figures", "params.yaml"]


def test_a_pipeline_run_has_all_parameters_the_dataset_the_result_and_a_note(store, project, pipeline_name):
    run = runs_of(store)[pipeline_name]
    params = load_params(project / "params.yaml")
    assert run.data.params["train.lr"] == str(params.train.lr)
    assert run.data.params["evolve.rescore.top"] == str(params.evolve.rescore.top)
    assert run.data.metrics == {"test_accuracy": 0.9}
    assert (run.data.tags["gee.result"], run.data.tags["mlflow.note.content"]) == ("abc", f"see {run.info.run_id}")
    for level in (run, runs_of(store)["evolve"]):
        (data,) = level.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("digits", META.digest)
        assert json.loads(data.dataset.profile)["class_names"] == ["a", "b"]


def test_the_run_of_a_stage_has_the_parameters_of_the_network_so_that_comparing_two_shows_what_differed(store, project):
    found = runs_of(store, "tags.`gee.level` = 'stage'")
    network = load_params(project / "params.yaml").network
    for stage in ("evolve", "export"):
        params = found[stage].data.params
        assert (params["network.T"], params["network.pool"], params["base.device"]) == (str(network.T), network.pool, "auto")
        assert not [name for name in params if name.startswith("train.")]


def test_an_error_of_the_database_is_told_once_in_its_own_words(project, tmp_path, capsys):
    from mlflow.exceptions import MlflowException

    shutil.copy(project / "mlflow.db", tmp_path)
    store = mlflow_client.connect(f"sqlite:///{tmp_path}/mlflow.db")
    run = store.create_run(store.create_experiment("another"))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
    with pytest.raises(MlflowException) as raised:
        store.log_metric(run.info.run_id, "accuracy", 0.5)
    assert mlflow_client.reason(raised.value) == "OperationalError: no such table: metrics"
    assert "Traceback" not in capsys.readouterr().err  # where MLflow's own logger writes


def test_a_drain_that_is_killed_at_any_point_is_followed_by_one_that_finds_all_by_its_keys(project, tmp_path, monkeypatch):
    """In a real store, whose searches the store in memory of other tests only imitates."""
    shutil.copy(project / "mlflow.db", tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(project / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(drain_process, "start", lambda root: None)
    monkeypatch.setattr(drain_process, "wait", lambda *_: None)
    tracker = Tracker("evolve", dict.fromkeys(KEYS, "killed"))
    tracker.continues(tmp_path)
    for name in ("a", "b"):
        tracker.candidate({"index": name}, {"fitness": 0.5}, name, "ok", {}, (1.0, 2.0))
    tracker.winner(["a"], {})
    tracker.close()
    outbox = shutil.copytree(tracker._outbox.folder, tmp_path / "kept")
    drain()
    shutil.copytree(outbox, tracker._outbox.folder)
    drain()
    store = mlflow_client.connect(f"sqlite:///{tmp_path}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("gee").experiment_id], "params.seed = 'killed'")
    assert sorted(run.data.tags["gee.level"] for run in runs) == ["candidate", "candidate", "stage"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [run.info.run_name for run in runs if "gee.winner" in run.data.tags] == ["a"]


def test_a_full_disk_costs_one_warning_and_what_does_not_fit(client, folder, caplog, monkeypatch):
    tracker = Tracker("train", dict.fromkeys(KEYS, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "append", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        tracker.metrics({"loss": 1.0})
        tracker.metrics({"loss": 1.0})
    tracker.metrics({"accuracy": 1.0})
    tracker.close()
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    (run,) = by_level(client, "stage")
    assert ({name for name, *_ in run.points}, run.info.status) == ({"accuracy"}, "FINISHED")


def test_a_disk_that_stays_full_stops_no_stage(folder, caplog, monkeypatch):
    (folder / ".scratch").write_text("no folder")
    monkeypatch.setattr(drain_process, "start", lambda root: None)
    tracker = Tracker("train", dict.fromkeys(KEYS, 1))
    tracker.metrics({"loss": 1.0})
    tracker.close()
    assert len(caplog.records) == 1


def test_a_file_that_is_missing_is_told_and_one_that_changes_is_uploaded_as_it_was(client, folder, caplog):
    tracker = Tracker("train", dict.fromkeys(KEYS, 1))
    tracker.artifact(folder / "missing.csv")
    tracker.artifact(folder / "plot.svg", "plots")
    (folder / "plot.svg").write_text("later")
    tracker.close()
    (run,) = by_level(client, "stage")
    assert run.files == {"plots/plot.svg": "<svg/>"}
    assert "missing.csv" in caplog.text


def test_a_machine_without_git_tracks_all_but_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not [tag for tag in origin_tags(tmp_path) if "commit" in tag]


def test_tracking_can_be_turned_off(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_tracker("train", load_params(ROOT / "params.yaml"))
    tracker.candidate({}, {}, "a", "ok", {}, (1.0, 2.0))
    tracker.winner(["a"], {"a": {"rank": 1}})
    tracker.continues(tmp_path)
    tracker.artifact(ROOT / "params.yaml")
    tracker.close()
    assert tracker.address() is None and list(tmp_path.iterdir()) == []
