"""Experiments that DVC runs in temporary copies of the project register their models in the project's MLflow."""

import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gee_core.storage.atomic_files import write_json
from tests.pipelines.conftest import MEASURED
from tests.project_copy import commit, make_repository, run

pytestmark = pytest.mark.slow

STAGE = {
    "cmd": "python -m pipelines.export",
    "deps": ["data/prepared", "models/train", "reports/evaluate/metrics.json"],
    "params": ["network", "export"],
    "outs": ["models/export"],
    "metrics": ["reports/export/metrics.json"],
}


@pytest.fixture
def project(in_project, trained) -> Path:
    """A repository whose only stage is export; what the stages before it made is in git."""
    folder = in_project(export={"verify_images": 8, "register_model": True})
    shutil.copytree(trained.parent, folder / "models/train")
    write_json(folder / "reports/evaluate/metrics.json", MEASURED)
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": {"export": STAGE}}, file)
    (folder / ".gitignore").write_text("/mlflow.db\n/mlartifacts\n/.scratch\n")
    make_repository(folder)
    dvc(folder, "init", "-q")
    commit(folder, "project")
    return folder


def dvc(folder: Path, *arguments: str) -> None:
    run(folder, sys.executable, "-m", "dvc", *arguments, GEE_TRACKING="on")


def test_models_of_experiments_in_temporary_copies_and_of_the_queue_are_registered(project):
    from pipelines.tracking.mlflow_client import connect

    dvc(project, "exp", "run", "--temp", "-S", "export.verify_images=9")
    dvc(project, "exp", "run", "--queue", "-S", "export.verify_images=10")
    try:
        dvc(project, "exp", "run", "--run-all")
    finally:
        dvc(project, "queue", "stop", "--kill")
    client = connect(f"sqlite:///{project}/mlflow.db")
    versions = client.search_model_versions("name = 'gee-digits-vgg16-g6'")
    assert {version.tags["gee.first_alias"] for version in versions} == {"champion", "challenger"}
    for version in versions:
        assert (Path(version.source.removeprefix("file://")) / "MLmodel").is_file()
    assert list(project.glob(".scratch/tracking/2*")) == []
