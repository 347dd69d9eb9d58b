"""A project with a few short stages, in which `gee` runs as a user calls it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project_copy import ROOT, environment, run

DVC_YAML = """
stages:
  second: {cmd: "cp a b", deps: [a], outs: [b]}
  first: {cmd: "echo 1 > a", outs: [a]}
  third: {cmd: "cat b missing > c || exit 9", deps: [b], outs: [c]}
  other: {cmd: "cp a d", deps: [a], outs: [d]}
"""


@pytest.fixture(scope="session")
def _initialised(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stages") / "project"
    (folder / "data/raw").mkdir(parents=True)
    run(folder, sys.executable, "-m", "dvc", "init", "--no-scm", "-q")
    for name in ("params.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    return folder


@pytest.fixture
def short_stages(_initialised, tmp_path, monkeypatch) -> Path:
    """The project, in which the third stage fails until there is a file `missing`."""
    project = shutil.copytree(_initialised, tmp_path / "project")
    monkeypatch.chdir(project)
    return project


def start(project: Path, *arguments: str, **env: str) -> subprocess.Popen:
    """`gee` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        cwd=project,
        env=environment(PREFECT_HOME=str(project / ".prefect")) | {"PYTHONPATH": str(ROOT)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def gee(project: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    """The exit code, the output and the messages of `gee`."""
    process = start(project, *arguments, **env)
    out, err = process.communicate()
    return process.returncode, out, err
