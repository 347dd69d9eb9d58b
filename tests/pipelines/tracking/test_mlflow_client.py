import logging
import shutil
from contextlib import nullcontext
from types import SimpleNamespace as Values

import pytest

from gee_core.errors import InputError
from pipelines.project.paths import COPIES
from pipelines.tracking import mlflow_client
from pipelines.tracking.experiment_page import EXPERIMENT_TAGS
from pipelines.tracking.mlflow_client import connect, find_experiment, open_store, tracking_uri
from tests.pipelines.tracking.conftest import make_folder


@pytest.mark.parametrize(
    ("setting", "uri"),
    [
        ("", "sqlite:///{project}/mlflow.db"),
        ("sqlite:///./runs/all.db?timeout=5", "sqlite:///{project}/runs/all.db?timeout=5"),
        ("sqlite:////var/lib/mlflow.db", "sqlite:////var/lib/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("databricks", "databricks"),
    ],
)
@pytest.mark.parametrize("place", [".", COPIES / "standalone/tmp1"], ids=["project", "copy for an experiment"])
def test_a_relative_sqlite_file_lies_in_the_project_and_in_no_copy_of_it(place, setting, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path / place))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", setting)
    assert tracking_uri() == uri.format(project=tmp_path)


@pytest.mark.parametrize("folder", ["mlruns", "file:///srv/mlruns"])
def test_a_folder_is_refused_where_mlflow_refuses_it(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder)
    with pytest.raises(InputError, match=rf"^MLFLOW_TRACKING_URI = {folder}: a folder, which MLflow \S+ refuses: write sql"):
        tracking_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert tracking_uri() == folder


@pytest.mark.parametrize(
    ("place", "moved"), [("{project}/mlartifacts", True), ("{other}/mlartifacts", False), ("s3://bucket/mlartifacts", False)]
)
def test_a_project_that_was_moved_or_copied_is_told_so_with_what_helps(tmp_path, monkeypatch, place, moved):
    """An experiment that the user put elsewhere is no sign of that, nor is a server."""
    project = make_folder(tmp_path / "a project")
    (project / "mlflow.db").touch()
    (tmp_path / "large").mkdir()
    location = place.format(project=project.as_uri(), other=(tmp_path / "large").as_uri())
    experiment = Values(experiment_id="0", artifact_location=location, lifecycle_stage="active", tags=EXPERIMENT_TAGS)
    client = Values(get_experiment_by_name=lambda name: experiment)
    monkeypatch.chdir(project)
    assert find_experiment(client, "gee", tracking_uri()) == "0"
    for how in (shutil.copytree, shutil.move):
        monkeypatch.chdir(how(project, tmp_path / how.__name__))
        said = rf"this project was moved or copied from {project}.*move mlflow.db away"
        with pytest.raises(InputError, match=said) if moved else nullcontext():
            find_experiment(client, "gee", tracking_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert find_experiment(client, "gee", tracking_uri()) == "0"


@pytest.mark.parametrize(
    "uri",
    [
        "http://ada:hunter22@127.0.0.1:9",
        "http://127.0.0.1:9/?password=hunter22",
        "ftp://ada:hunter22@host/x",
        "mysql+nodriver://ada:hunter22@127.0.0.1:9/db",
        "sqlite:////proc/none/mlflow.db",
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_without_secrets(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as caught:
        open_store("gee")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("MLFLOW_TRACKING_URI = ") and ": start the server, or correct MLFLOW_TRACKING_URI" in line
    assert "cannot be used (" in line and "hunter22" not in line and "ada" not in line


def test_the_reason_of_a_locked_database_has_no_statement():
    error = RuntimeError("(sqlite3.OperationalError) database is locked\n[SQL: UPDATE runs SET status=?]\n[parameters: (1,)]")
    assert mlflow_client.reason(error) == "RuntimeError: (sqlite3.OperationalError) database is locked"


@pytest.mark.slow
def test_a_store_whose_making_was_broken_off_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path))
    (tmp_path / "mlflow.db.new/left").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_client.os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            connect(tracking_uri())
    assert not (tmp_path / "mlflow.db").exists()
    connect(tracking_uri())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "mlflow.db", "params.yaml"]


def test_what_mlflow_itself_warns_of_is_redacted():
    mlflow_client.load()
    (handler, *_) = logging.getLogger("mlflow").handlers
    record = logging.LogRecord("mlflow.x", logging.WARNING, "", 1, "cannot reach %s", ("https://ada:hunter22@host",), None)
    assert handler.filter(record)
    assert record.getMessage() == "cannot reach https://***@host"
