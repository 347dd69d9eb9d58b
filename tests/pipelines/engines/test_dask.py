"""Workers in threads of this process where that is enough; in processes where they, or their scheduler, are to die."""

import json
import os
import shutil
import signal
import sys
import time
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path

import dask
import pytest
import torch
from distributed import Client, LocalCluster, Worker, get_worker
from distributed.protocol.pickle import cloudpickle

from gee_core.errors import InputError
from gee_core.evolution import proxy
from pipelines.engines import dask as dask_file
from pipelines.engines.dask import CODE, Dask, check_worker, enter, own_requirements
from pipelines.engines.pools import run_each
from pipelines.project.paths import COPIES
from tests.running import free_port, running

pytestmark = pytest.mark.slow

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def requirements(make_params, digits):
    return own_requirements([digits], [make_params().base])


@pytest.fixture
def threads(tmp_path, monkeypatch):
    """A cluster of two workers of one thread each, all in this process."""
    monkeypatch.chdir(tmp_path)
    with cluster_of(2) as cluster:
        yield cluster


def cluster_of(n_workers: int, processes: bool = False, **options) -> LocalCluster:
    options = {"threads_per_worker": 1, "memory_limit": None, "protocol": "tcp", "silence_logs": 50} | options
    return LocalCluster(n_workers=n_workers, processes=processes, host="127.0.0.1", dashboard_address="127.0.0.1:0", **options)


@pytest.fixture
def processes():
    """A cluster of two worker processes, started again where they die."""
    late = "distributed.deploy.lost-worker-timeout"  # a dead one may take long to load torch again
    with dask.config.set({late: "1 day", "distributed.scheduler.allowed-failures": 1}), cluster_of(2, True) as cluster:
        yield cluster


def run_all(scheduler, requirements, function, jobs, count=None):
    """All results by job."""
    with Dask(count, 1, requirements, scheduler) as pool:
        return dict(run_each(pool, function, jobs))


def square(job):
    return job * job


def dies(mark):
    """Job 1 kills its worker once, job 2 always."""

    def function(job):
        if job == 2 or (job == 1 and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return job * job

    return function


@pytest.mark.parametrize(("count", "room"), [(None, 2), (1, 1), (5, 2)])
def test_every_job_comes_back_once_with_its_result(count, room, threads, requirements):
    with Dask(count, 1, requirements, threads.scheduler_address) as pool:
        for _ in range(2):  # two generations
            assert sorted(run_each(pool, square, range(5))) == [(job, job * job) for job in range(5)]
        assert pool.room() == room  # workers, or jobs that were asked for


def test_a_job_whose_worker_died_runs_again_and_is_given_up_where_it_always_kills(processes, requirements, tmp_path):
    results = run_all(processes.scheduler_address, requirements, dies(tmp_path / "mark"), range(5))
    assert isinstance(results.pop(2), BrokenExecutor)
    assert results == {0: 0, 1: 1, 3: 9, 4: 16}


def test_a_worker_that_does_not_agree_is_named_before_its_first_job(threads, requirements, tmp_path):
    started = tmp_path / "started"

    def starts(job):
        started.touch()

    (name, code), *others = requirements.versions
    wanted = replace(requirements, versions=((name, code[::-1]), *others))
    problem = rf"^the worker tcp://127\.0\.0\.1:\d+ has code = {CODE}, not {CODE[::-1]}: install.*then start it again$"
    with pytest.raises(InputError, match=problem):
        run_all(threads.scheduler_address, wanted, starts, [1])
    assert not started.exists()


class Unknown:
    """Cannot be read where it is sent to, as a function of a project that is not installed there."""

    def __reduce__(self):
        return lacks_the_project, ()


def lacks_the_project():
    raise ModuleNotFoundError("No module named 'pipelines'")


def test_a_worker_that_cannot_load_the_project_is_named_with_the_remedy(threads, requirements, monkeypatch):
    monkeypatch.setattr(dask_file, "check_worker", Unknown())
    message = r"^the worker tcp://.* cannot load this project \(.*No module named 'pipelines'.*\): install the same version"
    with pytest.raises(InputError, match=message):
        run_all(threads.scheduler_address, requirements, square, [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folder": Path("/no-such-mount")}, "cannot see /no-such-mount: mount the shared folder"),
        ({"images": ((Path("/no-such-mount/prepared"), "0"),)}, "cannot see /no-such-mount/prepared: mount the shared folder"),
        ({"bases": (("cuda:99", "fp32"),)}, "device = cuda:99"),
        ({"images": ((Path("data/prepared"), "0"),)}, "sees other images in data/prepared: share the folder"),
        ({"hardware": "cuda bfloat16"}, "computes on cpu float32, another on cuda bfloat16: set base.device"),
    ],
)
def test_what_differs_is_named_with_a_remedy(change, message, make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits, tmp_path / "data/prepared")
    own = own_requirements([Path("data/prepared")], [make_params().base])
    with pytest.raises(InputError, match=f"^{message}"):
        check_worker(replace(own, **change))
    assert check_worker(own) == "cpu float32"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"threads_per_worker": 3}, "has 3 threads: start it with --nthreads 1, once per core or GPU"),
        ({"memory_limit": "1GiB"}, r"has dask's memory limit of 1\.00 GiB: start it with --memory-limit 0$"),
    ],
)
def test_a_worker_of_several_threads_or_with_a_memory_limit_is_refused(option, message, requirements):
    with cluster_of(1, **option) as cluster, pytest.raises(InputError, match=message):
        run_all(cluster.scheduler_address, requirements, square, [1])


def test_a_worker_that_joins_later_and_would_compute_otherwise_is_refused(threads, requirements, tmp_path):
    with Dask(None, 1, requirements, threads.scheduler_address) as pool:
        assert pool._requirements.hardware == "cpu float32"
        pool._requirements = replace(pool._requirements, hardware="cuda bfloat16")
        message = r"^the worker tcp://127\.0\.0\.1:\d+ computes on cpu float32, another on cuda bfloat16: set base.device"
        with pytest.raises(InputError, match=message):
            list(run_each(pool, square, [1]))


def test_a_worker_is_in_the_project_and_forgets_images_of_the_run_before(make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, base = shutil.copytree(digits, tmp_path / "prepared"), make_params().base
    required = own_requirements([folder], [base])
    monkeypatch.chdir("/")
    enter(required)
    assert Path.cwd() == tmp_path
    proxy._images(folder, None, torch.device("cpu"))
    enter(own_requirements([folder], [base]))  # of the same run
    assert proxy._images.cache_info().currsize == 1
    with (folder / "meta.json").open("a") as file:
        file.write(" ")
    enter(own_requirements([folder], [base]))
    assert proxy._images.cache_info().currsize == 0


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_jobs_go_to_the_workers_that_offer_a_gpu_unless_the_cpu_is_asked_for(device, threads, requirements):
    with Client(threads, set_as_default=False) as client:
        gpu = client.sync(start_worker, threads.scheduler_address)
        try:
            wanted = replace(requirements, bases=((device, "fp32"),))
            with Dask(None, 1, wanted, threads.scheduler_address) as pool:
                found = {address for _, address in run_each(pool, where, range(6))}
                assert (found == {gpu.address}) == (device == "auto")
                assert pool.room() == (1 if device == "auto" else 3)
        finally:
            client.sync(gpu.close)


async def start_worker(scheduler):
    return await Worker(scheduler, nthreads=1, memory_limit=None, resources={"GPU": 1})


def where(job):
    time.sleep(0.05)
    return get_worker().address


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("tcp://127.0.0.1:{port}", ""),
        ("nonsense://x", "unknown address scheme"),
        ("missing.json", ".*No such file or directory"),
        ("empty.json", "'address'"),
    ],
)
def test_a_scheduler_that_cannot_be_reached_is_named_with_the_remedy(value, reason, tmp_path, requirements, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_file, "CONNECT_SECONDS", 1)
    Path("empty.json").write_text("{}")
    value = value.format(port=free_port())
    if not value.startswith("tcp://"):  # a client of an unusable address hangs when it is deleted
        monkeypatch.setattr(dask_file, "Client", lambda *_, **__: pytest.fail("a client was made"))
    problem = rf"^GEE_DASK = {value}: no scheduler answers, or its file is damaged \({reason}"
    with pytest.raises(InputError, match=rf"{problem}.*: start one \(`dask scheduler`, docs/CLUSTER.md\)"):
        run_all(value, requirements, square, [1])


@pytest.mark.parametrize("address", ["tls://user:secret@head:8786", "user:secret@head:8786"])
def test_a_password_in_an_address_is_refused_and_not_shown(address):
    with pytest.raises(InputError, match=r"^GEE_DASK = \*\*\*@head:8786: a scheduler of dask takes no user") as caught:
        dask_file.connect(address)
    assert "secret" not in str(caught.value)


def test_a_scheduler_file_is_found_from_a_copy_of_the_project_for_an_experiment(threads, tmp_path, monkeypatch):
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": threads.scheduler_address}))
    copy = tmp_path / COPIES / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with dask_file.connect("scheduler.json") as client:
        assert client.scheduler.address == threads.scheduler_address


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler process with one worker process; the scheduler's file and process."""
    file, common = tmp_path / "scheduler.json", ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file"]
    head = [sys.executable, "-m", "distributed.cli.dask_scheduler", *common, str(file), "--port", "0"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", *common, str(file), "--nthreads", "1", "--no-nanny"]
    worker += ["--memory-limit", "0"]
    root = Path(__file__).resolve().parents[3]  # where the jobs of these tests are
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(root)}}
    log = tmp_path / "dask.log"
    with running(head, log, file.exists, **options) as process, running(worker, log, **options):
        yield file, process


def test_a_scheduler_that_dies_is_named_and_what_was_done_is_kept(scheduler, requirements, monkeypatch):
    monkeypatch.setattr(dask_file, "CONNECT_SECONDS", 600)
    file, process = scheduler
    done = []

    def run_until_it_dies():
        with Dask(None, 1, requirements, str(file)) as pool:
            for job, _ in run_each(pool, square, range(100)):
                done.append(job)
                if len(done) == 3:
                    pool._client._timeout = 2  # seconds in which it looks for the scheduler again
                    process.kill()
                    process.wait()

    remedy = "start the scheduler and its workers again, then the same command"
    with pytest.raises(InputError, match=rf"^GEE_DASK = {file}: the scheduler is gone .*: {remedy}"):
        run_until_it_dies()
    assert done == [0, 1, 2]
