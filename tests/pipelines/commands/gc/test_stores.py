import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from uuid import uuid4

import pytest

from gee_core.errors import InputError
from pipelines.commands.gc import stores
from pipelines.commands.gc.stores import dvc_leftovers, mlflow_leftovers, prefect_leftovers


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the tools, which answer with nothing."""
    commands = []

    def run(project, *command):
        commands.append(command)
        return ""

    monkeypatch.setattr(stores, "_run", run)
    return commands


def database(project, *deleted_days_ago: float | None):
    """An mlflow.db with a run for each, None for one that is not deleted; each has 500 bytes of artifacts."""
    with closing(sqlite3.connect(project / "mlflow.db")) as db:
        db.execute("create table runs (lifecycle_stage text, deleted_time integer, artifact_uri text)")
        for days in deleted_days_ago:
            folder = project / "mlartifacts" / f"a b {uuid4().hex}"
            folder.mkdir(parents=True)
            (folder / "x").write_bytes(b"0" * 500)
            then = None if days is None else int((time.time() - days * 86400) * 1000)
            db.execute("insert into runs values (?, ?, ?)", ("active" if days is None else "deleted", then, folder.as_uri()))
        db.commit()


def test_only_what_was_deleted_in_mlflow_long_ago_goes_and_mlflow_does_it(asked, tmp_path):
    database(tmp_path, None, 5, 31, 400)
    said: list[str] = []
    [found] = mlflow_leftovers(tmp_path, 30, said.append)
    assert (found.count, found.size) == (2, 1000)
    assert said == ["Kept: 1 deleted in MLflow within the last 30 days; `gee gc --mlflow --days 0` lists all of any age"]
    assert asked == []
    found.remove()
    [command] = asked
    assert command[:2] == ("mlflow", "gc")
    assert command[-2:] == ("--older-than", "30d")
    assert f"sqlite:///{tmp_path}/mlflow.db" in command


def test_without_deleted_runs_mlflow_is_left_alone(tmp_path):
    assert mlflow_leftovers(tmp_path, 0) == []
    database(tmp_path, None)
    assert mlflow_leftovers(tmp_path, 0) == []


def test_a_store_elsewhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI = http://127\.0\.0\.1:5000 is another store: run `mlflow gc`"):
        mlflow_leftovers(tmp_path, 30)


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "sqlite:///{project}/mlflow.db"])
def test_the_projects_own_database_is_no_store_elsewhere_however_it_is_written(address, tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    database(tmp_path, 31)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(project=tmp_path))
    [found] = mlflow_leftovers(tmp_path, 30)
    assert found.count == 1


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "no such table: runs"), (b"no database at all " * 99, "file is not a database")]
)
def test_a_database_that_is_empty_or_damaged_is_one_message(content, reason, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(InputError, match=rf"mlflow\.db: cannot be read \({reason}\): if it is damaged, move it away"):
        mlflow_leftovers(tmp_path, 30)


def test_dvc_says_what_the_workspace_does_not_use_and_removes_that_alone(tmp_path):
    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, check=True, capture_output=True)

    dvc("init", "--no-scm")
    for content in ("first" * 100, "now"):
        (tmp_path / "dvc.yaml").write_text(f"stages: {{a: {{cmd: echo {content} > x, outs: [x]}}}}")
        dvc("repro")
    [found] = dvc_leftovers(tmp_path)
    assert (found.count, found.size) == (1, 501)
    found.remove()
    assert dvc_leftovers(tmp_path) == []
    (tmp_path / "x").unlink()
    dvc("checkout")
    assert (tmp_path / "x").read_text() == "now\n"


def test_a_tool_that_fails_is_one_message(tmp_path):
    with pytest.raises(InputError, match=r"`dvc gc --workspace --dry` failed: ") as caught:
        dvc_leftovers(tmp_path)
    assert "\n" not in str(caught.value)


def test_old_flow_runs_and_stored_results_go_the_latter_by_their_age(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    ids, deleted = [uuid4(), uuid4()], []
    monkeypatch.setattr("pipelines.orchestration.server.old_flow_runs", lambda days: ids)
    monkeypatch.setattr("pipelines.orchestration.server.delete_flow_runs", deleted.extend)
    storage = tmp_path / ".prefect/storage"
    storage.mkdir(parents=True)
    (tmp_path / ".prefect/prefect.db").touch()
    for name, age in [("old", 31), ("young", 29)]:
        (storage / name).write_bytes(b"0" * 10)
        os.utime(storage / name, (time.time() - age * 86400,) * 2)
    runs, files = prefect_leftovers(tmp_path, 30)
    assert (runs.count, runs.size, files.count, files.size) == (2, None, 1, 10)
    for found in (runs, files):
        found.remove()
    assert deleted == ids
    assert [path.name for path in storage.iterdir()] == ["young"]


def test_a_project_without_prefect_starts_no_server(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("pipelines.orchestration.server.old_flow_runs", lambda days: pytest.fail("a server was asked"))
    assert prefect_leftovers(tmp_path, 0) == []


@pytest.mark.slow
def test_mlflow_removes_the_run_that_was_deleted_and_keeps_the_other(tmp_path):
    code = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
experiment = client.create_experiment("gee", "mlartifacts")
for name in ("deleted", "kept"):
    run = client.create_run(experiment, run_name=name).info.run_id
    client.log_text(run, name, "text")
    if name == "deleted":
        client.delete_run(run)
"""
    subprocess.run(
        [sys.executable, "-c", code.replace('"mlartifacts"', repr((tmp_path / "a").as_uri()))], cwd=tmp_path, check=True
    )
    [found] = mlflow_leftovers(tmp_path, 0)
    assert (found.count, found.size) == (1, len("deleted"))
    found.remove()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        assert db.execute("select name from runs").fetchall() == [("kept",)]
    assert [path.read_text() for path in (tmp_path / "a").rglob("text")] == ["kept"]
