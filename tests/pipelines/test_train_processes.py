"""The stage train in two processes: killed, stopped and started again it writes the bytes of an undisturbed run."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pipelines.test_train_stage import write_genotype
from tests.project_copy import ROOT, environment
from tests.running import listening
from tests.wait_until import wait_until

RESULTS = [
    "models/train/network.safetensors",
    "models/train/network.json",
    "reports/train/history.csv",
    "reports/train/metrics.json",
]
LONG = {"epochs": 60}
"""Enough that a run which has saved its first state is far from its end."""


def start(folder: Path, *command: str, **variables: str) -> psutil.Popen:
    env = environment(PYTHONPATH=str(ROOT), GEE_TRAIN_PROCESSES="2", **variables)
    command = command or (sys.executable, "-m", "pipelines.train")
    return psutil.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)


def end(process: psutil.Popen) -> tuple[int, list[str]]:
    """(exit code, what it said but for progress) of a run that is waited for."""
    _, said = process.communicate(timeout=600)
    return process.returncode, [line for line in said.splitlines() if not line.startswith("train ")]


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


def states(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".scratch/train/*/step-*.json")}


def stop(folder: Path, rank: int | None, number: signal.Signals) -> tuple[int, list[str], list[psutil.Process]]:
    """Send ``number`` to process ``rank``, or the command, once it saved a state; (exit code, what it said, who is left)."""
    before = states(folder)
    process = start(folder)
    wait_until(lambda: states(folder) - before or process.poll() is not None)
    assert process.poll() is None, process.stderr.read()
    workers = sorted((child for child in process.children(recursive=True) if child.ppid() != process.pid), key=lambda c: c.pid)
    assert len(workers) == 2 and listening(process) == {"127.0.0.1"}
    (process if rank is None else workers[rank]).send_signal(number)
    code, said = end(process)
    return code, said, psutil.wait_procs(workers, timeout=60)[1]


@pytest.fixture
def project(in_project):
    folder = in_project(train=LONG)
    write_genotype(folder)
    return folder


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_in_the_bytes_of_an_undisturbed_one(project):
    assert end(start(project)) == (0, [])
    expected = contents(project)
    for path in project.glob(".scratch/train/*/*"):
        path.unlink()
    lost = "process 1 of 2 was ended by SIGKILL: memory may have run out; `dvc repro` continues where it stopped"
    assert stop(project, 1, signal.SIGKILL) == (1, [f"train: error: {lost}"], [])
    assert stop(project, None, signal.SIGTERM) == (143, [], [])
    interrupted = "train: interrupted; the same command continues where it stopped"
    assert stop(project, None, signal.SIGINT) == (130, [interrupted], [])
    assert end(start(project)) == (0, [])
    assert contents(project) == expected
