"""A copy of the committed project with small parameters, and commands run in it as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.project_copy import ROOT as ROOT
from benchmarks.project_copy import copy_files


def environment(**changes: str) -> dict[str, str]:
    """With this Python first on the path, since stages say just ``python``, and no project but the one that it runs in.

    Neurons are not compiled, which takes longer than such small runs.
    """
    bin_folder = str(Path(sys.executable).parent)
    own = {"PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]), "GEE_WORKERS": "2", "GEE_COMPILE": "0"}
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | own | changes


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


SMALL = {
    "base": {"device": "cpu", "precision": "fp32"},
    "network": {"T": 2},
    "prepare": {"max_train_images": 300, "max_test_images": 60},
    "evolve": {"n_generations": 2, "population_size": 3, "proxy": {"epochs": 2}, "rescore": {"top": 1, "draws": 2}},
    "train": {"epochs": 1, "warmup_epochs": 0},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 1, "hardware": None},
}
"""Changes to the preset digits with which the whole pipeline takes a minute."""


def finish_project(folder: Path) -> None:
    """Make ``folder`` a copy of the project whose pipeline has run with SMALL, in its own mlflow.db too."""
    copy_project(folder, SMALL)
    run(folder, sys.executable, "-m", "pipelines.cli", "run", GEE_TRACKING="on")


def make_repository(folder: Path) -> None:
    """Make ``folder`` a git repository in which one can commit."""
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@localhost")
