"""The state of the project in git."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command in ``folder``; None if it fails, or git is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_commit(folder: Path) -> str | None:
    """Short hash of the commit of ``folder``, with "-dirty" if tracked files differ from it; None outside git.

    Changes to what a run itself writes (reports/, models/, dvc.lock) do not count, nor do those to params.yaml, which every
    result is tracked with.
    """
    commit = git(folder, "rev-parse", "--short", "HEAD")
    outputs = [f":(exclude,top){name}" for name in ("reports", "models", "dvc.lock", "params.yaml")]
    changed = commit and git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", *outputs)
    return f"{commit}-dirty" if changed else commit
