"""`run_each` on the engines `serial` and `processes`; the latter's processes are forked, so that they start at once."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from pipelines.engines.engine import Processes, Serial, run_each
from pipelines.runtime import worker_process
from tests.wait_until import wait_until

BOTH = pytest.mark.parametrize("engine", [Serial, lambda: Processes(2)], ids=["serial", "processes"])


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    monkeypatch.setattr(worker_process, "CONTEXT", multiprocessing.get_context("fork"))


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


def sleeps(job, tell):
    time.sleep(job)


def threads(job, tell):
    return torch.get_num_threads()


def meets_all_others(job, tell):
    folder, number, n_jobs = job
    (folder / str(number)).touch()
    wait_until(lambda: len(list(folder.iterdir())) == n_jobs)
    return os.environ["CUDA_VISIBLE_DEVICES"]


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
        wait_until(lambda: engine._workers[0].process.exitcode == 1)
        ((_, third),) = run_each(engine, own_pid, [4])
        assert third != first


@BOTH
def test_what_a_job_raises_leaves_as_it_is_and_the_other_jobs_end(engine):
    with engine() as opened, pytest.raises(ZeroDivisionError) as raised:
        list(run_each(opened, raises_at_1, [1, 2]))
    assert str(raised.value) == "job 1"
    assert not multiprocessing.active_children()


def test_jobs_that_nobody_waits_for_any_more_end():
    with Processes(2) as engine:
        results = run_each(engine, sleeps, [0, 3600])
        assert next(results) == (0, None)
        results.close()
        assert not multiprocessing.active_children()


def test_a_job_in_this_process_has_its_own_number_of_threads_and_leaves_that_of_the_process():
    before = torch.get_num_threads()
    with Serial(before + 1) as engine, Serial() as same:
        assert dict(run_each(engine, threads, [0])) == {0: before + 1}
        assert dict(run_each(same, threads, [0])) == {0: before}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("count", "seen"), [(1, ["4"]), (3, ["4", "4", "7"])])
def test_processes_take_the_gpus_in_turn(count, seen, tmp_path):
    with Processes(count, gpus=["4", "7"]) as engine:
        jobs = [(tmp_path, number, count) for number in range(count)]
        assert sorted(gpu for _, gpu in run_each(engine, meets_all_others, jobs)) == seen
