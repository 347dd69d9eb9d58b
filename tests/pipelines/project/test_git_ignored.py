"""What .gitignore keeps from git, and from DVC, which reads it in a way of its own."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.scm import Git

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def repo(tmp_path, monkeypatch) -> Repo:
    """A project that DVC and git keep, with the .gitignore of this one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    Git.init(str(tmp_path)).close()
    return Repo.init()


@pytest.mark.parametrize("folder", ["data/raw/birds", "models/studies/tiny"])
def test_what_dvc_add_takes_is_brought_back_by_dvc(repo, folder):
    Path(folder).mkdir(parents=True)
    Path(folder, "0.png").write_bytes(b"0")
    repo.add(folder)
    shutil.rmtree(folder)
    repo.checkout()
    assert Path(folder, "0.png").read_bytes() == b"0"


@pytest.mark.parametrize("path", ["data/raw/birds/0.png", "data/prepared/meta.json", "models/train/network.json"])
def test_images_and_results_are_ignored(repo, path):
    Path(path).parent.mkdir(parents=True)
    Path(path).touch()
    assert repo.scm.is_ignored(str(Path(path).absolute()))


@pytest.mark.parametrize("path", ["data/README.md", "data/raw/README.md", "data/raw/birds.dvc", "models/studies/tiny.dvc"])
def test_what_names_them_is_not_ignored(repo, path):
    Path(path).parent.mkdir(parents=True)
    Path(path).touch()
    assert not repo.scm.is_ignored(str(Path(path).absolute()))
