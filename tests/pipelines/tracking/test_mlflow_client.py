import pytest

from gee_core.errors import InputError
from pipelines.project.paths import COPIES
from pipelines.tracking.mlflow_client import tracking_uri


@pytest.mark.parametrize(
    ("setting", "uri"),
    [
        ("", "sqlite:///{project}/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///{project}/mlflow.db"),
        ("sqlite:///./runs/all.db?timeout=5", "sqlite:///{project}/runs/all.db?timeout=5"),
        ("sqlite:////var/lib/mlflow.db", "sqlite:////var/lib/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
@pytest.mark.parametrize("place", [".", COPIES / "standalone/tmp1"], ids=["project", "copy for an experiment"])
def test_a_relative_sqlite_file_lies_in_the_project_and_in_no_copy_of_it(place, setting, uri, tmp_path, monkeypatch):
    here = tmp_path / place
    here.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        (here / name).touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", setting)
    assert tracking_uri() == uri.format(project=tmp_path)


@pytest.mark.parametrize("folder", ["mlruns", "./mlruns", "file:///srv/mlruns"])
def test_a_folder_is_refused_where_mlflow_refuses_it(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder)
    with pytest.raises(InputError, match=rf"^MLFLOW_TRACKING_URI = {folder}: a folder, which MLflow \S+ refuses: write sql"):
        tracking_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert tracking_uri() == folder
