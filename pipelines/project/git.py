"""The state of the project in git."""

import logging
import os
import subprocess
from pathlib import Path

from gee_core.errors import InputError

log = logging.getLogger(__name__)


def git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command in ``folder``, with � for what is no text; None if it fails, or git is not installed."""
    done = _run(folder, *arguments)
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def check_git(folder: Path) -> None:
    """Check that git works in ``folder``, unless that is in no repository or git is not installed.

    Raises:
        InputError: it does not, for instance because the files belong to another user; the message is git's own.
    """
    done = _run(folder, "rev-parse", "--git-dir")
    absent = "not a git repository ("  # with a colon in place of the bracket, there is one, and it is damaged
    if done is not None and done.returncode and absent not in done.stderr:
        problem, _, advice = done.stderr.strip().partition("\n")
        remedy = " ".join(advice.split()) or f"`git status` in {folder.resolve()} has to work"
        raise InputError(f"git: {problem.removeprefix('fatal: ')}", remedy)


def check_for_dvc(project: Path) -> None:
    """Check that DVC works in ``project``: in no git repository only where its setting `core.no_scm` says so.

    Raises:
        InputError: it is in none.
    """
    folder = project.resolve()
    if any((parent / ".git").exists() for parent in [folder, *folder.parents]):  # as DVC looks for it, without git itself
        return
    from dvc.config import Config

    if not Config(str(folder / ".dvc")).get("core", {}).get("no_scm"):
        problem = f"{folder}: in no git repository, which DVC expects"
        raise InputError(problem, "`git init`, or `dvc config core.no_scm true` (no experiments then)")


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """A git command that has ended, its messages in English; None where git is not installed."""
    try:
        env = {**os.environ, "LC_ALL": "C"}
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, errors="replace", env=env)
    except OSError:
        return None


def head(project: Path, *options: str) -> str | None:
    """Hash of the commit of ``project``, with the ``options`` of `git rev-parse`; None before the first one, and where git does
    not know the project: a folder above may be a repository of something else.
    """
    return git(project, "rev-parse", *options, "HEAD") if git(project, "ls-files", "--", "dvc.yaml") else None


def git_commit(project: Path) -> str | None:
    """Short hash of the commit of ``project``, with "-dirty" if tracked files differ from it.

    None as `head` says, and with a warning where git does not work. Changes to what a run itself writes (reports/, models/,
    dvc.lock) do not count, nor do those to params.yaml, which every result is tracked with.
    """
    commit = head(project, "--short")
    if commit is None:
        try:
            check_git(project)
        except InputError as error:
            log.warning("the commit is not known: %s", error)
    outputs = [f":(exclude){name}" for name in ("reports", "models", "dvc.lock", "params.yaml")]
    changed = commit and git(project, "status", "--porcelain", "--untracked-files=no", "--", ".", *outputs)
    return f"{commit}-dirty" if changed else commit
