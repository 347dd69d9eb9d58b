"""How processes end that run jobs; all but one are forked, so that they start at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.util import Finalize
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.runtime import worker_process
from pipelines.runtime.worker_process import WorkerProcess, end_workers, wait_for_any
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]
OWNER = """
import sys, time
from pipelines.runtime.worker_process import WorkerProcess
from tests.pipelines.runtime.test_worker_process import says_its_pid
if __name__ == "__main__":
    workers = [WorkerProcess({}) for _ in range(2)]
    for number, worker in enumerate(workers):
        worker.begin(says_its_pid, (sys.argv[1], number))
    time.sleep(3600)
"""


def says_its_pid(job, tell):
    """The first is then idle, the second busy."""
    folder, number = job
    (Path(folder) / f"{number}.part").write_text(str(os.getpid()))
    (Path(folder) / f"{number}.part").rename(Path(folder) / str(number))
    time.sleep(3600 * number)


def cleans_up_at_its_end(job, tell):
    Finalize(None, job.touch, exitpriority=1)


def freezes(job, tell):
    os.kill(os.getpid(), signal.SIGSTOP)


def raises(job, tell):
    return [][job]


def surroundings(job, tell):
    return os.environ["GEE_TEST"], torch.get_num_threads(), signal.getsignal(signal.SIGINT)


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(worker_process, "CONTEXT", multiprocessing.get_context("fork"))
    return WorkerProcess


def test_a_process_has_its_own_variables_and_threads_and_leaves_ctrl_c_to_the_one_that_waits(start):
    worker = start({"GEE_TEST": "a"}, torch.get_num_threads() + 1)
    worker.begin(surroundings, None)
    wait_for_any([worker])
    assert worker.answer(print).result == ("a", torch.get_num_threads() + 1, signal.SIG_IGN)
    end_workers([worker])


def test_a_process_that_has_nothing_to_do_ends_by_itself_and_cleans_up(start, tmp_path):
    worker = start({})
    worker.begin(cleans_up_at_its_end, tmp_path / "clean")
    wait_until(lambda: worker.answer(print))
    end_workers([worker], grace=600)  # a busy machine does not have to be quick
    assert (tmp_path / "clean").exists()


def test_a_frozen_process_is_killed(start):
    worker = start({})
    worker.begin(freezes, None)
    process = psutil.Process(worker.process.pid)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    end_workers([worker], grace=0.1)
    assert not process.is_running()


def test_an_error_says_where_it_was_raised(start):
    worker = start({})
    worker.begin(raises, 7)
    wait_for_any([worker])
    error = worker.answer(print).error
    assert type(error) is IndexError
    assert "return [][job]" in error.__notes__[0]
    end_workers([worker])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_one_that_started_it(number, tmp_path):
    (tmp_path / "owner.py").write_text(OWNER)
    command = [sys.executable, "owner.py", str(tmp_path)]
    owner = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
    workers = [psutil.Process(int((tmp_path / name).read_text())) for name in "01"]
    owner.send_signal(number)
    assert owner.wait(600)
    assert not psutil.wait_procs(workers, timeout=600)[1]
