"""A project folder with four short stages."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DVC_YAML = """
stages:
  second: {cmd: "cp a b", deps: [a], outs: [b]}
  first: {cmd: "echo 1 > a", outs: [a]}
  third: {cmd: "cat b missing > c || exit 9", deps: [b], outs: [c]}
  other: {cmd: "cp a d", deps: [a], outs: [d]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
