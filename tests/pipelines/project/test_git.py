import subprocess

from pipelines.project.git import git_commit


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_is_null_outside_git(tmp_path):
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "nowhere") is None


def test_commit_is_dirty_only_where_what_was_not_written_by_the_run_differs(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "reports").mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "reports/summary.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "start")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert git_commit(tmp_path) == head
    for name in ("params.yaml", "dvc.lock", "reports/summary.json"):
        (tmp_path / name).write_text("2")
    assert git_commit(tmp_path) == head
    (tmp_path / "dvc.yaml").write_text("2")
    assert git_commit(tmp_path) == f"{head}-dirty"
