"""`run_each` on the engines `serial` and `processes`; the latter's processes are forked, so that they start at once."""

import multiprocessing
import os
import signal
import time
from multiprocessing.util import Finalize
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.engines import engine as engines
from pipelines.engines import process_pool as processes
from pipelines.engines.engine import WorkerDied, run_each
from pipelines.engines.process_pool import Processes
from pipelines.engines.serial import Serial
from tests.wait_until import wait_until


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    monkeypatch.setattr(processes, "get_context", lambda method: multiprocessing.get_context("fork"))
    monkeypatch.setattr(processes, "die_with_parent", lambda: None)
    monkeypatch.setattr(processes, "keep_freed_memory", lambda: None)


def tells(job, tell):
    tell((job, "begun"))
    tell((job, "half"))
    return job * job


def counts_starts(job, tell):
    """Notes each start in a file; job 1 kills its process the first time, the others are then half done or not begun."""
    mark = Path(os.environ["GEE_TEST_MARK"])
    with (mark / str(job)).open("a") as file:
        file.write("started\n")
    if job == 1 and (mark / "1").read_text() == "started\n":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return job * job


def dies_once_beside_two(job, tell):
    """Job 1 ends its process by a signal, the first time, once the jobs 0 and 2 are at work."""
    folder, number, how = job
    if not (is_repeated := (folder / "died").exists()):
        (folder / str(number)).touch()
    if number == 1 and not is_repeated:
        wait_until(lambda: {"0", "2"} <= {path.name for path in folder.iterdir()})
        (folder / "died").touch()
        os.kill(os.getpid(), how)
    if not is_repeated:
        time.sleep(3600)
    return number


def ends_the_process_afterwards(job, tell):
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    return job * job


def dies_always_at_2(job, tell):
    if job == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return job * job


def cleans_up_at_its_end(job, tell):
    Finalize(None, Path(job).touch, exitpriority=1)


def freezes(job, tell):
    Path(job).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


def raises(job, tell):
    raise ZeroDivisionError(f"job {job}")


def threads(job, tell):
    return torch.get_num_threads()


def meets_all_others(job, tell):
    folder, number, n_jobs = job
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < n_jobs:
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.parametrize("engine", [Serial, lambda: Processes(2)], ids=["serial", "processes"])
def test_all_notes_of_a_job_come_before_its_result(engine):
    notes, results = [], {}
    with engine() as opened:
        for job, result in run_each(opened, tells, range(6), notes.append):
            assert [text for number, text in notes if number == job] == ["begun", "half"]
            results[job] = result
    assert results == {job: job * job for job in range(6)}


def test_a_death_casts_suspicion_on_few_and_all_others_stay_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path))
    with Processes(2) as engine:
        assert dict(run_each(engine, counts_starts, range(20))) == {job: job * job for job in range(20)}
    assert (tmp_path / "1").read_text() == "started\n" * 2
    twice = [path.name for path in tmp_path.iterdir() if path.read_text() != "started\n"]
    assert len(twice) <= 3  # those that were with the executor: one on each process, one waiting


@pytest.mark.parametrize(("how", "expected"), [(signal.SIGKILL, [1]), (signal.SIGTERM, [0, 1, 2, 3])])
def test_only_jobs_whose_process_died_run_alone_or_all_if_the_pool_may_have_ended_it(how, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 60.0)  # a busy machine does not have to be quick
    alone, run_alone = [], engines._alone
    monkeypatch.setattr(engines, "_alone", lambda *call: alone.append(call[2][1]) or run_alone(*call))
    jobs = [(tmp_path, number, how) for number in range(4)]  # the last one waits for a process
    with Processes(3) as engine:
        assert sorted(number for _, number in run_each(engine, dies_once_beside_two, jobs)) == [0, 1, 2, 3]
    assert alone == expected


def test_processes_that_died_while_they_had_nothing_to_do_are_replaced():
    with Processes(1) as engine:
        assert dict(run_each(engine, ends_the_process_afterwards, [3])) == {3: 9}
        (process,) = engine._executor._processes.values()
        wait_until(lambda: process.exitcode is not None)  # the pool's thread may have waited for it first
        assert process.exitcode == 1
        assert dict(run_each(engine, tells, [4])) == {4: 16}


def test_processes_that_have_nothing_to_do_end_by_themselves_and_clean_up(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 60.0)  # a busy machine does not have to be quick
    with Processes(1) as engine:
        assert list(run_each(engine, cleans_up_at_its_end, [tmp_path / "clean"])) == [(tmp_path / "clean", None)]
    assert (tmp_path / "clean").exists()


def test_a_frozen_process_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.1)
    with Processes(1) as engine:
        engine.submit(freezes, tmp_path / "pid")
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    try:
        wait_until(lambda: not process.is_running())
    finally:
        if process.is_running():  # its end is waited for when Python ends
            process.kill()


def test_a_job_whose_process_always_dies_is_given_up():
    with Processes(2) as engine:
        results = dict(run_each(engine, dies_always_at_2, [1, 2, 3]))
    assert isinstance(results[2], WorkerDied)
    assert (results[1], results[3]) == (1, 9)


@pytest.mark.parametrize("engine", [Serial, lambda: Processes(2)], ids=["serial", "processes"])
def test_what_a_job_raises_leaves_as_it_is(engine):
    with engine() as opened, pytest.raises(ZeroDivisionError, match=r"^job 1$"):
        list(run_each(opened, raises, [1]))


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
