"""Against real stores: what a run looks like in one, and that no kill of whatever process loses or doubles anything."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.commands.prediction import open_model, predict
from pipelines.runtime.run_files import now_ms
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking import mlflow_client, publish
from pipelines.tracking.mlflow_models import FILES
from pipelines.tracking.tracker import open_stage
from tests.pipelines.tracking.conftest import GONE, Store, make_folder, publish_all
from tests.pipelines.tracking.models import README, exported_model, write_exported
from tests.project_copy import ROOT
from tests.running import free_port, listens, running, wait_until

pytestmark = pytest.mark.slow


NAME = "gee-digits-vgg16-g6"


@pytest.fixture(scope="module")
def project(tmp_path_factory, make_params):
    """A project with two exports in a temporary copy of DVC's, where MLflow would make another db."""
    folder = make_folder(tmp_path_factory.mktemp("project"))
    copy = make_folder(folder / ".dvc/tmp/exps/tmp1")
    write_exported(copy / "models/export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GEE_TRACKING", "on")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(publish, "start", lambda owner: None)
        patch.setattr(publish, "wait", lambda run: (None, []))  # for a minute, for what nobody publishes yet
        patch.chdir(copy)
        for accuracy in (0.75, 0.5):
            patch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda accuracy=accuracy: f"{GONE}{accuracy}")
            export = open_stage("export", make_params())
            model = exported_model(accuracy, time=now_ms())
            export.run.model(copy / "models/export", FILES, model)
            export.close("FINISHED")
            publish_all()
            for path in runs_root().glob("export-*/mlflow.json"):  # as by a power failure
                path.unlink()
            publish_all()
        yield folder


@pytest.fixture
def store(project):
    return mlflow_client.connect(f"sqlite:///{project}/mlflow.db")


def test_a_real_store_has_each_model_once_with_its_alias_and_gives_it_out(store, project, monkeypatch):
    import mlflow

    copy = project / ".dvc/tmp/exps/tmp1"
    assert not [path for path in copy.rglob("*") if path.name in ("mlflow.db", "mlruns", "mlartifacts")]
    aliases = {
        alias: int(store.get_model_version_by_alias(NAME, alias).version) for alias in ("champion", "challenger", "latest")
    }
    assert aliases == {"champion": 1, "challenger": 2, "latest": 2}
    experiment_id = store.get_experiment_by_name("gee").experiment_id
    order = [{"field_name": "metrics.test_accuracy", "ascending": False, "dataset_name": "digits"}]
    first, second = store.search_logged_models([experiment_id], order_by=order)
    for version, model in ((1, first), (2, second)):
        pipeline = store.get_model_version(NAME, version).run_id
        (export,) = store.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{pipeline}'")
        outputs = [[m.model_id for m in run.outputs.model_outputs] for run in (store.get_run(pipeline), export)]
        assert outputs == [[model.model_id]] * 2
        assert model.source_run_id == pipeline  # in whose row MLflow shows it
    assert sorted((m.key, m.value, m.dataset_name, m.dataset_digest) for m in first.metrics) == [
        (key, value, "digits", "0123456789abcdef-test") for key, value in (("energy_uj", 750), ("test_accuracy", 0.75))
    ]
    assert first.params == {"network": "vgg16", "n_genes": "6"}
    assert json.loads(first.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]
    assert first.tags["mlflow.note.content"] == (shown := f"test_accuracy 0.75\n\n{README}")
    assert store.get_model_version(NAME, 2).description == shown.replace("@champion", "/2").replace("0.75", "0.5")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    for address in (f"models:/{NAME}@champion", f"models:/{NAME}/2", f"models:/{second.model_id}", f"runs:/{pipeline}/{NAME}"):
        (seen,) = predict(copy / "models/export", [Path("example.png")], open_model(address))
        assert seen.top[0][0] == "pixel 6"
    for address in (f"models:/{NAME}@nobody", f"models:/{NAME}/3", "models:/other/1", "runs:/0/x", "models:/"):
        with pytest.raises(InputError, match=f"^{address}: cannot be read from sqlite"):
            open_model(address)
    example = (copy / "models/export/example.png").read_bytes()
    answer = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict({"image": [example]})
    assert answer["class"].tolist() == ["pixel 6"]


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


SEARCH = """
import sys, time
from pathlib import Path
from pipelines.project.params import load_params
from pipelines.runtime.run_files import Mark
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking.tracker import open_stage, tracked_execution
from tests.pipelines.tracking.conftest import candidate
n, pause, done = int(sys.argv[1]), float(sys.argv[2]), Path("scored")
params = load_params()
with tracked_execution(params):
    stage = open_stage("evolve", params)
    with stage.run.at_work_in(runs_root() / "evolve-key"):
        rows = [candidate(f"c{i}", 1.0 / (i + 1)) for i in range(n)]
        for i, row in enumerate(rows):
            known = done.exists() and i < len(done.read_text())
            stage.run.child(row)
            stage.run.point(i, {"final_fitness": 1.0 / (i + 1)})
            if not known:
                time.sleep(600 if pause and i == n - 1 else pause)
                done.write_text("." * (i + 1))
        stage.run.record.marks = {row.child: Mark(metrics={"rank": 1.0 + i}) for i, row in enumerate(rows)}
        stage.run.artifact(Path("params.yaml"), "shown")
    stage.close("FINISHED")
"""
"""A stage that searches, as `gee run` starts it: candidates are pauses, and those known are not scored again.

With a pause between candidates, it does not come to its end before it is killed.
"""


def search(folder: Path, n: int, pause: float) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(ROOT), "GEE_TRACKING": "on"}
    command = [sys.executable, "-c", SEARCH, str(n), str(pause)]
    return subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, stderr=subprocess.DEVNULL)


def publishers(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if "pipelines.tracking.publish" in process.cmdline() and process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def replayed(folder: Path, monkeypatch, uri: str = "") -> list:
    """Publish all that is left; the runs that came to their end, with all that people see of them."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    wait_until(lambda: not publishers(folder))
    publish_all()
    shown = Store(mlflow_client.connect(uri or f"sqlite:///{folder}/mlflow.db")).state()
    return [run for run in shown if run[1] != "KILLED"]


@pytest.fixture
def make(tmp_path):
    """Makes a project folder."""
    return lambda name: make_folder(tmp_path / name)


def test_whatever_is_killed_the_store_equals_that_of_an_undisturbed_run(make, monkeypatch):
    """The stage is killed and started again, the publisher is killed, and both at once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    quiet, folder, draw = make("quiet"), make("killed"), random.Random(0)
    assert search(quiet, 20, 0.0).wait() == 0
    expected = replayed(quiet, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    for kind in ("stage", "publisher", "both"):
        process = search(folder, 20, 0.3)
        wait_until(lambda: publishers(folder))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.5, 3))
        victims = publishers(folder) if kind != "stage" else []
        for victim in victims + ([psutil.Process(process.pid)] if kind != "publisher" else []):
            victim.kill()
        if kind == "publisher":
            process.send_signal(signal.SIGKILL)
        process.wait()
    assert search(folder, 20, 0.0).wait() == 0
    found = replayed(folder, monkeypatch)
    assert [run for run in found if run not in expected] == [] and len(found) == len(expected)


def test_a_server_that_is_away_at_first_costs_no_candidate_and_no_second_point(make, monkeypatch):
    """What it then gets over HTTP is published twice, as if a power failure had taken the deletion of the files."""
    folder = make("away")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert search(folder, 5, 0.0).wait() == 0
    shutil.copytree(folder / ".scratch/runs", folder / "kept")
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--port", str(port), "--workers", "1"]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": ""}
    with running(command, folder / "server.log", lambda: listens(port), env=env, cwd=folder):
        first = replayed(folder, monkeypatch, uri)
        shutil.rmtree(folder / ".scratch/runs")
        shutil.copytree(folder / "kept", folder / ".scratch/runs")
        assert replayed(folder, monkeypatch, uri) == first and len(first) == 7
        ((*_, points, files, _),) = [run for run in first if run[0].startswith("evolve")]
        assert [step for _, step, _ in points] == [0, 1, 2, 3, 4] and files == ["shown/params.yaml"]
