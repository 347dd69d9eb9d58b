"""`gee preset queue`: presets as DVC experiments, and why one is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands import preset as module
from tests.project_copy import commit, make_repository


@pytest.fixture
def project(bare_project) -> Path:
    """The project with a folder for images."""
    (bare_project / "data/raw").mkdir(parents=True)
    return bare_project


def make_commit() -> None:
    """Make the folder a project that git knows."""
    make_repository(Path())
    commit(Path(), "start")


@pytest.fixture
def dvc_calls(project, monkeypatch) -> list[list[str]]:
    """The commands of DVC that would have been run, in a git repository; they succeed."""
    make_commit()
    calls, run = [], subprocess.run
    done = subprocess.CompletedProcess([], 0, "", "")

    def record(command, **options):
        return run(command, **options) if command[0] == "git" else calls.append(command) or done

    monkeypatch.setattr(module.subprocess, "run", record)
    monkeypatch.setattr(module.console, "width", 1000)
    return calls


def test_a_queued_preset_leaves_params_as_they_are(project, dvc_calls, main):
    before = (project / "params.yaml").read_bytes()
    code, out, _ = main("preset", "queue", "cifar10-tiny", "--data", "my/images")
    assert code == 0 and (project / "params.yaml").read_bytes() == before
    assert f"  prepare.path='{project / 'my/images'}'" in out.splitlines()  # the copy that DVC makes has no images
    (command,) = dvc_calls
    changes = [f"--set-param={line.strip()}" for line in out.splitlines() if line.startswith("  ")]
    assert command == [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", "cifar10-tiny", *changes]


def test_what_cannot_run_is_not_queued_nor_is_what_stands_before_it(project, dvc_calls, main):
    assert "imagenet: no such folder" in main("preset", "queue", "digits", "imagenet-paper")[2]
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: many", 1))
    assert "base.seed = 'many'" in main("preset", "queue", "digits")[2]
    assert dvc_calls == []


def test_why_dvc_refuses_is_said_in_one_line_and_without_git_the_remedy_is_git(project, main):
    problem = f"{project}: no git commit of the project, which DVC's experiments need"
    remedy = "`git init`, `dvc config core.no_scm false`, then commit the project; or write params.yaml itself"
    assert main("preset", "queue", "digits") == (2, "", f"gee: error: {problem}: {remedy}\n")
    make_commit()  # no DVC
    (line,) = main("preset", "queue", "digits")[2].splitlines()
    assert line.startswith("gee: error: DVC cannot queue the experiment 'digits' (you are not inside of a DVC repository")
