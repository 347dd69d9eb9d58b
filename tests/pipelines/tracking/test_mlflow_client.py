import shutil
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.project.paths import COPIES
from pipelines.tracking import mlflow_client
from pipelines.tracking.mlflow_client import connect, tracking_uri


def make_project(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    return folder


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
    monkeypatch.chdir(make_project(tmp_path / place))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", setting)
    assert tracking_uri() == uri.format(project=tmp_path)


@pytest.mark.parametrize("folder", ["mlruns", "file:///srv/mlruns"])
def test_a_folder_is_refused_where_mlflow_refuses_it(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder)
    with pytest.raises(InputError, match=rf"^MLFLOW_TRACKING_URI = {folder}: a folder, which MLflow \S+ refuses: write sql"):
        tracking_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert tracking_uri() == folder


@pytest.mark.slow
@pytest.mark.parametrize("how", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_project_that_was_moved_or_copied_is_told_so_with_what_helps(tmp_path, monkeypatch, how):
    """Experiments that the user put elsewhere are no sign of that, nor is a server."""
    project = make_project(tmp_path / "a project")
    monkeypatch.chdir(project)
    client = connect(tracking_uri())
    (tmp_path / "large").mkdir()
    places = [f"{project.as_uri()}/mlartifacts", f"{tmp_path.as_uri()}/large/mlartifacts", "s3://bucket/mlartifacts"]
    for i, place in enumerate(places):
        client.create_experiment(str(i), place)
    client.delete_experiment("1")
    connect(tracking_uri())
    how(project, tmp_path / "b")
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(InputError, match=rf"this project was moved or copied from {project}.*move mlflow.db away"):
        connect(tracking_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    connect(tracking_uri())


@pytest.mark.slow
def test_a_store_whose_making_was_broken_off_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path))
    (tmp_path / "mlflow.db.new/left").mkdir(parents=True)
    uri = tracking_uri()
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_client.os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mlflow_client.connect(uri)
    assert not (tmp_path / "mlflow.db").exists()
    mlflow_client.connect(uri)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "mlflow.db", "params.yaml"]
