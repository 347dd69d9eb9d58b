"""`run_each` on the pools `Serial` and `Processes`."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.engines.pools import Processes, Serial, run_each
from tests.project_copy import ROOT
from tests.running import wait_until

BOTH = pytest.mark.parametrize("open_pool", [Serial, lambda: Processes(2)], ids=["serial", "processes"])


def square(job):
    return job * job


def note_start(job):
    """Notes each start in a file. Job 1 kills its process once, the jobs 0 and 2 being at work, and job 3 always."""
    folder, number, how = job
    with (folder / str(number)).open("a") as file:
        file.write(".")
    if number == 1 and len((folder / "1").read_text()) == 1:
        wait_until(lambda: {"0", "2"} <= {path.name for path in folder.iterdir()})
        os.kill(os.getpid(), how)
    if number == 3:
        os.kill(os.getpid(), how)
    return number


def own_pid(job):
    return os.getpid()


def raise_at_1(job):
    if job == 1:
        raise ZeroDivisionError(f"job {job}")
    time.sleep(3600)


def stop_at_1(job):
    """Job 1 stops its process, which only SIGKILL can end."""
    folder, number = job
    if number == 1:
        (folder / "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())


def surroundings(job):
    return torch.get_num_threads(), signal.getsignal(signal.SIGINT)


def meet_all_others(job):
    folder, number, n_jobs = job
    (folder / str(number)).touch()
    wait_until(lambda: len(list(folder.iterdir())) == n_jobs)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def say_own_pid(job):
    """The first is then idle, the second busy."""
    folder, number = job
    (Path(folder) / f"{number}.part").write_text(str(os.getpid()))
    (Path(folder) / f"{number}.part").rename(Path(folder) / str(number))
    time.sleep(3600 * number)


@BOTH
def test_every_job_comes_back_once_with_its_result(open_pool):
    with open_pool() as pool:
        for _ in range(2):
            assert sorted(run_each(pool, square, range(6))) == [(job, job * job) for job in range(6)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_only_a_job_whose_process_died_runs_again_once(how, tmp_path):
    jobs = [(tmp_path, number, how) for number in range(6)]
    with Processes(3) as pool:
        results = {job[1]: result for job, result in run_each(pool, note_start, jobs)}
    assert isinstance(results.pop(3), BrokenExecutor)
    assert results == {number: number for number in (0, 1, 2, 4, 5)}
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == [".", "..", ".", "..", ".", "."]


def test_a_process_is_used_again_until_it_dies_or_is_ended_while_idle():
    with Processes(1) as pool:
        ((_, first), (_, second)) = run_each(pool, own_pid, [0, 1])
        assert first == second
        os.kill(first, signal.SIGKILL)
        ((_, third),) = run_each(pool, own_pid, [2])
        pool.end_idle()
        assert not psutil.pid_exists(third)
        assert pool.submit(own_pid, 3).result() not in (first, third)


@BOTH
def test_what_a_job_raises_ends_the_iteration_and_the_other_jobs(open_pool):
    with open_pool() as pool, pytest.raises(ZeroDivisionError, match=r"^job 1$"):
        list(run_each(pool, raise_at_1, [1, 2]))


def test_jobs_that_nobody_waits_for_any_more_end(tmp_path):
    with Processes(2) as pool:
        assert next(run_each(pool, stop_at_1, [(tmp_path, 1), (tmp_path, 0)])) == ((tmp_path, 0), None)
        pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid)


def test_jobs_have_their_threads_and_a_process_leaves_ctrl_c_to_its_owner():
    before = torch.get_num_threads()
    with Processes(1, before + 1) as pool:
        assert pool.submit(surroundings, 0).result() == (before + 1, signal.SIG_IGN)
    for serial, threads in ((Serial(before + 1), before + 1), (Serial(), before)):
        assert serial.submit(torch.get_num_threads).result() == threads
    assert torch.get_num_threads() == before


def test_processes_take_the_gpus_in_turn(tmp_path):
    with Processes(3, gpus=["4", "7"]) as pool:
        jobs = [(tmp_path, number, 3) for number in range(3)]
        assert sorted(gpu for _, gpu in run_each(pool, meet_all_others, jobs)) == ["4", "4", "7"]


OWNER = """
import sys
from pipelines.engines.pools import Processes, run_each
from tests.pipelines.engines.test_pools import say_own_pid
if __name__ == "__main__":
    list(run_each(Processes(2), say_own_pid, [(sys.argv[1], 0), (sys.argv[1], 1)]))
"""


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
