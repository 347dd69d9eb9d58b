"""A project folder with four short stages, and modules that are imported by the tests that use them: Prefect takes seconds."""

import importlib
import shutil
import sys

import pytest

from tests.project_copy import ROOT, run

DVC_YAML = """
stages:
  second: {cmd: "cp a b", deps: [a], outs: [b]}
  first: {cmd: "echo 1 > a", outs: [a]}
  third: {cmd: "cat b missing > c || exit 9", deps: [b], outs: [c]}
  other: {cmd: "cp a d", deps: [a], outs: [d]}
"""

flow, follow, serve, server = (
    pytest.fixture(lambda name=name: importlib.import_module(f"pipelines.orchestration.{name}"), name=name)
    for name in ("flow", "follow", "serve", "server")
)


@pytest.fixture(scope="session")
def _initialised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "project"
    (folder / "data/raw").mkdir(parents=True)
    run(folder, sys.executable, "-m", "dvc", "init", "--no-scm", "-q")
    for name in ("params.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    return folder


@pytest.fixture
def short_stages(_initialised, tmp_path, monkeypatch):
    project = shutil.copytree(_initialised, tmp_path / "project")
    monkeypatch.chdir(project)
    return project
