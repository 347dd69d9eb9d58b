"""Addresses of artifacts in mlflow.db after its project was moved or copied."""

import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.commands.gc import mlflow_leftovers
from pipelines.tracking import mlflow_client
from pipelines.tracking.moved_store import ADDRESSES, follow, follow_own
from tests.pipelines.tracking.conftest import GONE, KEYS
from tests.pipelines.tracking.models import exported_model, write_exported

BELOW = {"experiments": "", "runs": "/run%201/artifacts", "logged_models": "/models/m/artifacts"}
"""Where the artifacts of a row of each table lie in mlartifacts; of other tables, as those of logged_models."""


def below(table: str) -> str:
    return BELOW.get(table, BELOW["logged_models"])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with a database of one run and one registered model, the files of both, and an experiment elsewhere."""
    folder = tmp_path / "a project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    root = (folder / "mlartifacts").as_uri()
    with closing(sqlite3.connect(folder / "mlflow.db")) as db:
        for table in dict.fromkeys(table for table, _ in ADDRESSES):
            columns = [column for of, column in ADDRESSES if of == table]
            db.execute(
                f"create table {table} ({', '.join(columns)}, lifecycle_stage default 'deleted', deleted_time default 0)"
            )
            address = root + below(table)
            db.execute(
                f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' for _ in columns)})",
                [address] * len(columns),
            )
        db.execute("insert into experiments (artifact_location) values ('/elsewhere/mlruns/0'), ('s3://bucket/mlartifacts')")
        db.commit()
    for place in ("run 1", "models/m"):
        (folder / "mlartifacts" / place / "artifacts").mkdir(parents=True)
        (folder / "mlartifacts" / place / "artifacts/file").write_bytes(b"0" * 100)
    monkeypatch.chdir(folder)
    return folder


def addresses(folder: Path) -> list[tuple[str, str]]:
    """Every address in a project's database, with its table."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as db:
        return [
            (t, address) for t, column in ADDRESSES for (address,) in db.execute(f"select {column} from {t} order by rowid")
        ]


def of(folder: Path) -> list[tuple[str, str]]:
    """What `addresses` are where all lead to a folder's mlartifacts."""
    found = [(table, (folder / "mlartifacts").as_uri() + below(table)) for table, _ in ADDRESSES]
    return [found[0], ("experiments", "/elsewhere/mlruns/0"), ("experiments", "s3://bucket/mlartifacts"), *found[1:]]


def test_the_addresses_of_a_project_that_was_moved_follow_it_and_one_line_says_so(project, tmp_path, caplog, monkeypatch):
    assert addresses(project) == of(project)
    moved = project.rename(tmp_path / "another")
    monkeypatch.chdir(moved)
    follow_own(), follow_own()
    assert addresses(moved) == of(moved)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"MLflow: this project was moved or copied from {project}: 5 addresses in mlflow.db now lead to its own mlartifacts"
    )


def test_a_copy_leads_to_its_own_artifacts_and_the_original_stays(project, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    (found,) = mlflow_leftovers(copy, 0)  # what `gee gc --mlflow` then deletes is its own
    assert (found.count, found.size) == (1, 100)
    assert (addresses(copy), addresses(project)) == (of(copy), of(project))


def test_artifacts_that_were_not_copied_are_still_found(project, tmp_path):
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    shutil.rmtree(copy / "mlartifacts/models")
    follow(copy / "mlflow.db")
    there = {"logged_models", "model_versions"}
    expected = [old if old[0] in there else new for old, new in zip(of(project), of(copy), strict=True)]
    assert addresses(copy) == expected


def test_artifacts_in_a_place_that_the_user_chose_stay(project, tmp_path, caplog):
    (tmp_path / "disk").mkdir()
    (project / "mlartifacts").rename(tmp_path / "disk/mlartifacts")
    with closing(sqlite3.connect(project / "mlflow.db")) as db:
        for table, column in ADDRESSES:
            db.execute(
                f"update {table} set {column} = replace({column}, ?, ?)", (project.as_uri(), (tmp_path / "disk").as_uri())
            )
        db.commit()
    before = addresses(project)
    assert before == of(tmp_path / "disk")
    follow(project / "mlflow.db")
    assert addresses(project) == before and caplog.records == []


def test_another_path_of_the_same_folder_is_no_move(project, tmp_path):
    (tmp_path / "link").symlink_to(project)
    follow(tmp_path / "link/mlflow.db")
    assert addresses(project) == of(project)


def test_a_store_that_the_user_configured_is_never_changed(project, tmp_path, monkeypatch):
    moved = project.rename(tmp_path / "another")
    monkeypatch.chdir(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    follow_own()
    assert addresses(moved) == of(project)


def test_a_database_that_cannot_follow_is_named_with_both_remedies(project, tmp_path, monkeypatch):
    moved = project.rename(tmp_path / "another")
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *to, timeout=None, **how: connect(f"file:{moved}/mlflow.db?mode=ro", uri=True)
    )
    with pytest.raises(InputError) as raised:
        follow(moved / "mlflow.db")
    assert str(raised.value) == (
        f"{moved}/mlflow.db: its addresses of artifacts lead to {project}/mlartifacts and cannot be changed "
        f"(attempt to write a readonly database): make it writable, or move the project back to {project}"
    )


@pytest.mark.parametrize("content", [b"", b"no database" * 100])
def test_what_is_no_database_of_mlflow_is_left_to_mlflow(content, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(content)
    follow(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == content


def test_these_are_the_addresses_of_artifacts_that_this_version_of_mlflow_keeps():
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.dbmodels import models as _  # noqa: F401
    from mlflow.store.tracking.dbmodels import models  # noqa: F401

    names = ("artifact_location", "artifact_uri", "storage_location")
    found = {(table.name, c.name) for table in Base.metadata.tables.values() for c in table.columns if c.name in names}
    assert found == set(ADDRESSES) - {("model_versions", "source")}
    assert "source" in Base.metadata.tables["model_versions"].columns


@pytest.mark.slow
def test_a_registered_model_and_new_artifacts_are_where_a_project_was_moved(folder, tmp_path_factory, monkeypatch):
    from pipelines.commands.prediction import open_model
    from pipelines.tracking.tracker import MlflowTracker

    def track(project: Path) -> None:
        write_exported(project / "models/export")
        tracker = MlflowTracker("export", KEYS)
        tracker.model(exported_model(project / "models/export"))
        tracker._delivery.wait(600)
        tracker.close()

    with monkeypatch.context() as patch:  # of another process: MLflow remembers where the artifacts of a run are
        patch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: GONE.format(host=socket.gethostname()))
        track(folder)
    champion = "models:/gee-digits-vgg16-g6@champion"
    moved = tmp_path_factory.mktemp("other") / "project"
    shutil.move(folder, moved)
    folder.mkdir()
    monkeypatch.chdir(moved)
    assert open_model(champion).card.class_names
    before = set((moved / "mlartifacts").rglob("*"))
    track(moved)
    assert list(folder.iterdir()) == [] and set((moved / "mlartifacts").rglob("*")) > before
    client = mlflow_client.connect(mlflow_client.tracking_uri())
    version = client.get_model_version_by_alias("gee-digits-vgg16-g6", "champion")
    shutil.rmtree(place := Path(version.source.removeprefix("file://")))
    for address in (champion, f"runs:/{version.run_id}/{version.name}"):
        with pytest.raises(
            InputError, match=f"^{address}: {place.parent.parent}/m-[0-9a-f]+/artifacts has no artifacts/network.onnx"
        ):
            open_model(address)
