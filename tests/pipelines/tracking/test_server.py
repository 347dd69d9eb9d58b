"""Against real stores: what a run looks like in one, and that a drain or a server that is killed loses and doubles nothing."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.tracking import disturbed
from pipelines.project.params import load_params
from pipelines.tracking import drain as drains
from pipelines.tracking import mlflow_client
from pipelines.tracking.drain import Drain
from pipelines.tracking.outbox import outbox_root
from pipelines.tracking.tracker import Tracker, open_tracker
from tests.pipelines.tracking.conftest import GONE, KEYS, META, drain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
KILLED_AFTER_CREATE = """
import os, signal
from mlflow import MlflowClient
create_run, n = MlflowClient.create_run, [0]
def create_and_return(*args, **kwargs):
    made = create_run(*args, **kwargs)
    n[0] += 1
    if n[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return made
MlflowClient.create_run = create_and_return
from pipelines.tracking.drain import main
main()
"""
"""A drain that is killed when MLflow has made a run, before it notes anything of that."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder in which the stages evolve and export have run, by hand, after a run that was left behind."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("pipelines.tracking.drain.LINGER", 0.0)
        patch.setattr(drains, "start", lambda root: None)
        patch.setattr(drains, "wait", lambda *_: None)
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: GONE)
            Tracker("train", dict.fromkeys(KEYS, "left behind"), name="left behind").close()
        params = load_params(folder / "params.yaml")
        evolve = open_tracker("evolve", params)
        evolve.dataset(META, "training")
        evolve.params({f"p{i}": i for i in range(250)})
        for step in range(3):
            evolve.metrics({"fitness@best": 1.0 - step}, step=step)
        evolve.candidate({"width": 0.2}, {"fitness": 0.5}, "gen0-cand0", "ok", {"genotype.json": "{}"}, (1.0, 2.0))
        evolve.candidate({}, {"fitness": math.nan, "L_ce": 2.0}, "gen0-cand1", "diverged", {"note.txt": "x"}, (1.0, 2.0))
        evolve.winner(["gen0-cand0"], {"gen0-cand0": {"final_fitness": 0.4}})
        evolve.result({"test_accuracy": 0.9}, {"gee.result": "abc"}, "the table", [folder / "params.yaml"])
        evolve.close()
        open_tracker("export", params).close("FAILED")
        drain()
        yield folder


@pytest.fixture
def store(project):
    return mlflow_client.connect(f"sqlite:///{project}/mlflow.db")


def runs_of(store, query: str = "") -> dict:
    """Stages by their name, other runs by that of the run."""
    found = store.search_runs([store.get_experiment_by_name("gee").experiment_id], query)
    return {run.data.tags.get("gee.stage") or run.info.run_name: run for run in found}


def test_runs_lie_below_each_other_and_every_one_can_be_found_by_the_keys(store, project):
    params = load_params(project / "params.yaml")
    keys = {"dataset": params.prepare.dataset, "n_genes": params.network.n_genes, "seed": params.base.seed}
    runs = runs_of(store, " and ".join(f"params.{key} = '{value}'" for key, value in keys.items()))
    assert all(set(run.data.params) >= set(KEYS) for run in runs.values())
    ids = {run.info.run_id: name for name, run in runs.items()}
    above = {name: ids.get(run.data.tags.get("mlflow.parentRunId")) for name, run in runs.items()}
    stages = {"digits": None, "evolve": "digits", "export": "digits"}  # called by the preset
    assert above == stages | {"gen0-cand0": "evolve", "gen0-cand1": "evolve"}


def test_what_was_tracked_is_in_the_run_of_the_stage_and_of_its_candidates(store, project):
    runs = runs_of(store)
    evolve, best, failed = (runs[name] for name in ("evolve", "gen0-cand0", "gen0-cand1"))
    assert {f"p{i}" for i in range(250)} <= set(evolve.data.params)
    assert evolve.data.params["network.T"] == str(load_params(project / "params.yaml").network.T)
    history = store.get_metric_history(evolve.info.run_id, "fitness-best")  # MLflow refuses the @
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.0), (2, -1.0)]
    files = [[file.path for file in store.list_artifacts(run.info.run_id)] for run in (best, failed)]
    assert files == [["genotype.json"], ["note.txt"]]
    assert best.data.params["width"] == "0.2"  # a gene's own value in place of the setting
    assert (best.data.tags["gee.winner"], best.data.metrics["final_fitness"]) == ("true", 0.4)
    assert (failed.info.status, failed.data.params["status"], failed.data.metrics) == ("FAILED", "diverged", {"L_ce": 2.0})
    assert failed.data.tags["not_finite"] == "fitness"
    assert store.get_experiment_by_name("gee").artifact_location == (project / "mlartifacts").as_uri()


def test_the_run_of_a_pipeline_has_all_parameters_the_data_set_the_result_and_what_became_of_its_stages(store, project):
    (run,) = runs_of(store, "tags.`gee.level` = 'pipeline' and tags.`gee.result` = 'abc'").values()
    params = load_params(project / "params.yaml")
    assert run.data.params["train.lr"] == str(params.train.lr)
    assert run.data.params["evolve.rescore.top"] == str(params.evolve.rescore.top)
    assert (run.data.metrics, run.data.tags["mlflow.note.content"]) == ({"test_accuracy": 0.9}, "the table")
    assert (run.info.status, run.data.tags["stage.evolve"], run.data.tags["stage.export"]) == ("FAILED", "ran", "failed")
    assert [file.path for file in store.list_artifacts(run.info.run_id)] == ["params.yaml"]
    for level in (run, runs_of(store)["evolve"]):
        (data,) = level.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("digits", META.digest)
        assert json.loads(data.dataset.profile)["class_names"] == ["a", "b"]


def test_an_error_of_the_database_is_told_once_in_its_own_words(project, tmp_path, capsys):
    from mlflow.exceptions import MlflowException

    shutil.copy(project / "mlflow.db", tmp_path)
    store = mlflow_client.connect(f"sqlite:///{tmp_path}/mlflow.db")
    run = store.create_run(store.create_experiment("another"))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
    with pytest.raises(MlflowException) as raised:
        store.log_metric(run.info.run_id, "accuracy", 0.5)
    assert mlflow_client.reason(raised.value) == "OperationalError: no such table: metrics"
    assert "Traceback" not in capsys.readouterr().err  # where MLflow's own logger writes


def test_a_drain_that_is_killed_between_a_new_run_and_its_note_makes_no_second_one(project, monkeypatch):
    """Nor does one whose notes a power failure has taken. The searches of the store in memory are imitations."""
    tracker = Tracker("evolve", dict.fromkeys(KEYS, "killed"))
    tracker.continues(project)
    for name in ("a", "b", "c"):
        tracker.candidate({"index": name}, {"fitness": 0.5}, name, "ok", {}, (1.0, 2.0))
    tracker.winner(["a"], {})
    tracker.close()
    outbox, kept = tracker._outbox.folder, project / "kept"
    shutil.copytree(outbox, kept)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_CREATE.format(at=2)], env=env)
    assert killed.returncode == -signal.SIGKILL and outbox.exists()
    drain()
    shutil.move(kept, outbox)
    assert [left.written["child"] for left in Drain(outbox_root()).run(follows=False)] == [3]
    store = mlflow_client.connect(f"sqlite:///{project}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("gee").experiment_id], "params.seed = 'killed'")
    assert sorted(run.info.run_name for run in runs if run.data.tags["gee.level"] == "candidate") == ["a", "b", "c"]
    assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}
    assert [run.info.run_name for run in runs if "gee.winner" in run.data.tags] == ["a"]


@pytest.mark.parametrize("how", ["away_to_the_end", "drain_killed"])
def test_every_candidate_is_found_exactly_once_after_a_disturbance_and_a_replay(how):
    found = disturbed(30, 0.2, how)
    assert (found["missing"], found["doubled"], found["again"]) == (0, 0, 0)
    assert how != "away_to_the_end" or found["left"] > 10
