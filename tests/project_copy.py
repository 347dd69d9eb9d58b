"""A copy of the committed project with small parameters, and commands run in it as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.project_copy import copy_files

ROOT = Path(__file__).resolve().parents[1]


def environment(**changes: str) -> dict[str, str]:
    """With this Python first on the path, since stages say just ``python``, and no project but the one that it runs in."""
    bin_folder = str(Path(sys.executable).parent)
    paths = {"PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]), "GEE_WORKERS": "2"}
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | paths | changes


def run(folder: Path, *command: str, **changes: str) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(command, cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", message)


def copy_project(folder: Path, changes: dict[str, dict]) -> None:
    """Copy the committed files to ``folder``, a git repository of its own, with ``changes`` to the preset digits by section."""
    copy_files(folder, changes)
    make_repository(folder)
    commit(folder, "project")


def make_repository(folder: Path) -> None:
    """Make ``folder`` a git repository in which one can commit."""
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@localhost")
