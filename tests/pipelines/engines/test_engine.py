"""`run_each` on the engines `serial` and `processes`. But for one test the latter's processes are forked, and start at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.engines import processes
from pipelines.engines.engine import Serial, WorkerDied, ignore, run_each
from pipelines.engines.processes import Processes
from tests.project_copy import ROOT
from tests.wait_until import wait_until

BOTH = pytest.mark.parametrize("engine", [Serial, lambda: Processes(2)], ids=["serial", "processes"])


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    monkeypatch.setattr(processes, "CONTEXT", multiprocessing.get_context("fork"))


def tells(job, tell):
    tell((job, "begun"))
    tell((job, "half"))
    return job * job


def dies_twice(job, tell):
    """Notes each start in a file. Job 1 ends its process twice, the first time once the jobs 0 and 2 are at work."""
    folder, number, how = job
    with (folder / str(number)).open("a") as file:
        file.write(".")
    if number == 1 and len((folder / "1").read_text()) < 3:
        wait_until(lambda: {"0", "2"} <= {path.name for path in folder.iterdir()})
        os.kill(os.getpid(), how)
    return number


def ends_the_process_afterwards(job, tell):
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    return job * job


def own_pid(job, tell):
    return os.getpid()


def raises_at_1(job, tell):
    if job == 1:
        raise ZeroDivisionError(f"job {job}")
    time.sleep(3600)


def raises_or_dies(job, tell):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    raise ConnectionError("closed by peer")


def freezes_at_1(job, tell):
    if job == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


def sleeps_at_1(job, tell):
    time.sleep(3600 * job)


def surroundings(job, tell):
    return torch.get_num_threads(), signal.getsignal(signal.SIGINT)


def cleans_up_at_its_end(job, tell):
    Finalize(None, job.touch, exitpriority=1)


def meets_all_others(job, tell):
    folder, number, n_jobs = job
    (folder / str(number)).touch()
    wait_until(lambda: len(list(folder.iterdir())) == n_jobs)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def says_its_pid(job, tell):
    """The first is then idle, the second busy."""
    folder, number = job
    (Path(folder) / f"{number}.part").write_text(str(os.getpid()))
    (Path(folder) / f"{number}.part").rename(Path(folder) / str(number))
    time.sleep(3600 * number)


@BOTH
def test_all_notes_of_a_job_come_before_its_result(engine):
    notes, results = [], {}
    with engine() as opened:
        for job, result in run_each(opened, tells, range(6), notes.append):
            assert [text for number, text in notes if number == job] == ["begun", "half"]
            results[job] = result
    assert results == {job: job * job for job in range(6)}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_only_the_job_whose_process_died_runs_again(how, tmp_path):
    jobs = [(tmp_path, number, how) for number in range(6)]
    with Processes(3) as engine:
        assert sorted(number for _, number in run_each(engine, dies_twice, jobs)) == list(range(6))
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == [".", "...", ".", ".", ".", "."]


def test_processes_are_used_again_and_replaced_where_they_died_while_they_had_nothing_to_do():
    with Processes(1) as engine:
        ((_, first), (_, second)) = run_each(engine, own_pid, [0, 1])
        assert first == second
        assert dict(run_each(engine, ends_the_process_afterwards, [3])) == {3: 9}
        wait_until(lambda: engine._workers[0][0].exitcode == 1)
        ((_, third),) = engine.each(own_pid, [4], ignore)  # at the first try
        assert isinstance(third, int) and third != first


@BOTH
def test_what_a_job_raises_leaves_as_it_is_and_the_other_jobs_end(engine):
    with engine() as opened, pytest.raises(ZeroDivisionError, match="job 1") as raised:
        list(run_each(opened, raises_at_1, [1, 2]))
    assert not multiprocessing.active_children()
    assert str(raised.value) == "job 1"
    places = getattr(raised.value, "__notes__", ["raise ZeroDivisionError"])  # in another process the traceback stays there
    assert "raise ZeroDivisionError" in places[0]


def test_a_death_comes_before_an_error_which_it_may_have_caused(monkeypatch):
    def wait_for_both(handles):
        """The pipe of the first, and the end of the second."""
        wait_until(lambda: {handles[0], handles[3]} <= set(wait(handles, 0)))

    monkeypatch.setattr(processes, "wait", wait_for_both)
    with Processes(2) as engine:
        assert next(engine.each(raises_or_dies, [0, 1], ignore)) == (1, WorkerDied(-signal.SIGKILL))


@pytest.mark.parametrize(
    ("function", "state", "grace", "number"),
    [
        (sleeps_at_1, psutil.STATUS_SLEEPING, 60, signal.SIGTERM),
        (freezes_at_1, psutil.STATUS_STOPPED, 0.1, signal.SIGKILL),
    ],
)
def test_jobs_that_nobody_waits_for_any_more_end(function, state, grace, number, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", grace)
    with Processes(2) as engine:
        results = run_each(engine, function, [1, 0])
        assert next(results) == (0, None)
        process, _ = engine._workers[0]
        wait_until(lambda: psutil.Process(process.pid).status() == state)
    assert process.exitcode == -number
    assert not multiprocessing.active_children()


def test_a_process_has_its_number_of_threads_leaves_ctrl_c_to_the_one_that_waits_and_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 600)  # a busy machine does not have to be quick
    threads = torch.get_num_threads() + 1
    with Processes(1, threads) as engine:
        assert dict(run_each(engine, surroundings, [0])) == {0: (threads, signal.SIG_IGN)}
        list(run_each(engine, cleans_up_at_its_end, [tmp_path / "clean"]))
    assert (tmp_path / "clean").exists()


def test_a_job_in_this_process_has_its_own_number_of_threads_and_leaves_that_of_the_process():
    before = torch.get_num_threads()
    for engine, threads in ((Serial(before + 1), before + 1), (Serial(), before)):
        assert dict(run_each(engine, lambda job, tell: torch.get_num_threads(), [0])) == {0: threads}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("count", "seen"), [(1, ["4"]), (3, ["4", "4", "7"])])
def test_processes_take_the_gpus_in_turn(count, seen, tmp_path):
    with Processes(count, gpus=["4", "7"]) as engine:
        jobs = [(tmp_path, number, count) for number in range(count)]
        assert sorted(gpu for _, gpu in run_each(engine, meets_all_others, jobs)) == seen


OWNER = """
import sys
from pipelines.engines.engine import run_each
from pipelines.engines.processes import Processes
from tests.pipelines.engines.test_engine import says_its_pid
if __name__ == "__main__":
    list(run_each(Processes(2), says_its_pid, [(sys.argv[1], 0), (sys.argv[1], 1)]))
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
