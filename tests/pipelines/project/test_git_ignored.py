"""What .gitignore keeps from git, and from DVC, which reads it in a way of its own."""

import shutil
from pathlib import Path

from tests.project_copy import ROOT


def test_images_and_results_are_ignored_and_what_names_them_is_not(tmp_path, monkeypatch):
    from dvc.repo import Repo
    from dvc.scm import Git

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    Git.init(str(tmp_path)).close()
    repo = Repo.init()
    for path in ("data/raw/birds/0.png", "data/prepared/meta.json", "models/train/network.json"):
        assert repo.scm.is_ignored(str(Path(path).absolute())), path
    for path in ("data/README.md", "data/raw/README.md", "data/raw/birds.dvc", "models/studies/tiny.dvc"):
        assert not repo.scm.is_ignored(str(Path(path).absolute())), path
