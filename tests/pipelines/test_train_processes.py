"""The stage train in two processes of torchrun: killed and stopped it goes on to the bytes of an undisturbed run."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pipelines.test_train_stage import write_genotype
from tests.project_copy import ROOT, environment
from tests.running import wait_until

RESULTS = [
    "models/train/network.safetensors",
    "models/train/network.json",
    "reports/train/history.csv",
    "reports/train/metrics.json",
]
LONG = {"epochs": 60}
"""Enough that a run which has saved its first state is far from its end."""

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def start(folder: Path) -> psutil.Popen:
    command, env = (*TORCHRUN, "pipelines.train"), environment(PYTHONPATH=str(ROOT))
    return psutil.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)


def end(process: psutil.Popen) -> int:
    process.communicate(timeout=600)
    return process.returncode


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


def states(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".scratch/runs/train-*/files/work/step-*.json")}


def stop(folder: Path, rank: int | None, number: signal.Signals) -> tuple[int, list[str]]:
    """Send ``number`` to process ``rank``, or to torchrun, once it saved a state; (whether it failed, what train said)."""
    before, process = states(folder), start(folder)
    wait_until(lambda: states(folder) - before or process.poll() is not None)
    assert process.poll() is None, process.stderr.read()
    workers = sorted(process.children(), key=lambda child: int(child.environ()["RANK"]))
    (process if rank is None else workers[rank]).send_signal(number)
    _, said = process.communicate(timeout=600)
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=600)[1]
    return process.returncode != 0, [line for line in said.splitlines() if line.startswith("train: ")]


@pytest.fixture
def project(in_project):
    folder = in_project(train=LONG)
    write_genotype(folder)
    return folder


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_in_the_bytes_of_an_undisturbed_one(project):
    assert end(start(project)) == 0
    expected = contents(project)
    shutil.rmtree(project / ".scratch")
    assert stop(project, 1, signal.SIGKILL) == (True, [])
    assert stop(project, None, signal.SIGINT) == (True, ["train: interrupted; the same command continues where it stopped"])
    assert end(start(project)) == 0
    assert contents(project) == expected
