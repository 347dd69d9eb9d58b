import logging
import shutil
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.project.git import check_git, git_commit, head
from tests.project_copy import ROOT, commit, make_repository, run


def git(folder, *arguments):
    return run(folder, "git", *arguments).strip()


def test_commit_is_null_outside_git_and_before_the_first_one_without_a_warning(tmp_path, caplog):
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "nowhere") is None
    make_repository(tmp_path)
    assert git_commit(tmp_path) is None
    assert caplog.text == ""


def test_why_git_does_not_work_is_told_in_its_own_words_with_its_own_remedy(tmp_path, monkeypatch, caplog):
    make_repository(tmp_path)
    check_git(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        with pytest.raises(
            InputError, match=r"^git: detected dubious ownership in .*: git config .* safe\.directory "
        ) as caught:
            check_git(tmp_path)
        assert "\n" not in str(caught.value)
        assert git_commit(tmp_path) is None
        assert f"the commit is not known: {caught.value}" in caplog.text
    (tmp_path / ".git/config").write_text("[")
    with pytest.raises(InputError, match=rf"^git: bad config line \d in file .*: `git status` in {tmp_path} has to work$"):
        check_git(tmp_path)


@pytest.mark.parametrize("where", ["", "below"])
def test_commit_is_dirty_only_where_what_was_not_written_by_the_run_differs(tmp_path, where):
    make_repository(tmp_path)
    project = tmp_path / where
    (project / "reports").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "reports/summary.json"):
        (project / name).write_text("1")
    commit(tmp_path, "start")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert git_commit(project) == head
    for name in ("params.yaml", "dvc.lock", "reports/summary.json"):
        (project / name).write_text("2")
    assert git_commit(project) == head
    (project / "dvc.yaml").write_text("2")
    assert git_commit(project) == f"{head}-dirty"


def test_the_commit_of_a_repository_that_does_not_hold_the_project_is_not_its_own(tmp_path, caplog):
    """As where the archive of a release is unpacked below a home folder that is a repository of settings."""
    make_repository(tmp_path)
    (tmp_path / "settings").touch()
    commit(tmp_path, "settings")
    project = tmp_path / "gee"
    project.mkdir()
    (project / "dvc.yaml").touch()
    assert (head(project), git_commit(project), caplog.text) == (None, None, "")
    commit(tmp_path, "gee")
    assert head(project) == git(tmp_path, "rev-parse", "HEAD")


def test_images_and_results_are_ignored_and_what_names_them_is_not(tmp_path, monkeypatch):
    """DVC reads .gitignore in a way of its own."""
    from dvc.repo import Repo
    from dvc.scm import Git

    monkeypatch.setattr(logging.getLogger("dvc"), "handlers", [])  # they may write to the closed output of an earlier test
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    Git.init(str(tmp_path)).close()
    repo = Repo.init()
    for path in ("data/raw/birds/0.png", "data/prepared/meta.json", "models/train/network.json"):
        assert repo.scm.is_ignored(str(Path(path).absolute())), path
    for path in ("data/README.md", "data/raw/README.md", "data/raw/birds.dvc", "models/studies/tiny.dvc"):
        assert not repo.scm.is_ignored(str(Path(path).absolute())), path
