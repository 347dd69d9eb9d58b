"""What git knows of the project."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints in ``folder``; None where it fails, or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_commit(folder: Path) -> str | None:
    """Short hash of the commit that ``folder`` is at, with "-dirty" where tracked files differ; None outside git.

    What a run itself writes (reports/, models/, dvc.lock) does not count as a difference.
    """
    commit = git(folder, "rev-parse", "--short", "HEAD")
    outputs = [f":(exclude,top){name}" for name in ("reports", "models", "dvc.lock")]
    changed = commit and git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", *outputs)
    return f"{commit}-dirty" if changed else commit
