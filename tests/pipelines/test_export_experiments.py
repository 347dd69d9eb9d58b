"""Experiments that DVC runs in temporary copies of the project register their models in the project's MLflow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gee_core.storage.atomic_files import write_json
from tests.pipelines.conftest import MEASURED

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
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@localhost")
    dvc(folder, "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "project")
    return folder


def run(folder: Path, *command: str) -> None:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    env |= {"PATH": paths, "GEE_TRACKING": "on"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def dvc(folder: Path, *arguments: str) -> None:
    run(folder, sys.executable, "-m", "dvc", *arguments)


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
    assert {version.tags["gee.alias"] for version in versions} == {"champion", "challenger"}
    for version in versions:
        assert (Path(version.source.removeprefix("file://")) / "MLmodel").is_file()
    assert list(project.glob(".scratch/tracking/2*")) == []
