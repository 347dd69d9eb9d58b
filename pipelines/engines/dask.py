"""The engine `dask`: jobs on the workers of a dask scheduler (docs/CLUSTER.md). The only file that imports dask.

Without an address, a scheduler and workers are started here and end with this process. With an address, workers may join and
leave at any time: there are never more jobs than workers, so a worker that dies loses only its own job, which dask runs again.
"""

import functools
import json
import logging
import math
import queue
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, LocalCluster, Worker, get_worker
from distributed.core import Status

from gee_core.errors import InputError, in_short
from gee_core.evolution.proxy import forget_images
from gee_core.memory import keep_freed_memory
from pipelines.engines.engine import MAX_TRIES, Engine, WorkerDied, ignore
from pipelines.engines.worker_check import WorkerRequirements, check_worker
from pipelines.project.paths import original_project
from pipelines.runtime.worker_process import Function, Job, Result, Tell

TICK = 0.2
"""Seconds between two checks for notes and new workers."""

CONNECT_SECONDS = 10
CLOSE_SECONDS = 20
LOGS = ("distributed", "distributed.client", "distributed.core", "distributed.nanny", "distributed.worker", "asyncio")
"""They are silenced: lost workers and schedulers are in this project's own records and messages."""

UNREADABLE = ("ModuleNotFoundError", "ImportError", "AttributeError")
"""Start of dask's error text where a worker cannot import the function that it is to call."""


class Dask(Engine):
    """Runs jobs on workers that pass `check_worker`, one job at a time on each."""

    tries_alone = 1  # dask itself retries, as often as the scheduler's allowed-failures say

    def __init__(self, count: int | None, threads: int, requirements: WorkerRequirements, address: str | None):
        """``count``: jobs at once, None for one per worker. ``address``: a scheduler's, or the path of its scheduler file."""
        self._count, self._threads, self._requirements, self._address = count, threads, requirements, address
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._executor: Executor | None = None
        self._topic = f"gee-{uuid.uuid4().hex}"
        self._notes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._resources: dict[str, int] = {}
        self._run_here: Callable[..., Any] = run_here

    def each(
        self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell
    ) -> Iterator[tuple[Job, Result | WorkerDied]]:
        left, running = deque(jobs), dict[Future[Result], Job]()
        executor = self._executor = self._executor or self._start()
        while left or running:
            while left and len(running) < self.room():
                job = left.popleft()
                with self._lost():
                    running[executor.submit(self._run_here, function, job)] = job
            done, _ = wait(running, TICK, FIRST_COMPLETED)
            self._pass_on(on_note)
            for future in done:
                result = self._result(future)
                yield running.pop(future), result

    def room(self) -> int:
        if self._executor is None:
            return 1
        with self._lost():
            return max(1, min(self._count or sys.maxsize, len(self._workers())))

    def stop(self) -> None:
        for opened in (self._client, self._cluster):  # a client that closes cancels its jobs
            if opened is not None:
                with suppress(Exception):  # what cannot be closed ends with this process
                    opened.close(timeout=CLOSE_SECONDS)
        self._executor = self._client = self._cluster = None

    def _start(self) -> Executor:
        for name in LOGS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self._address is None:
            self._cluster = local_cluster()
            self._cluster.scale(self._count or 1)
        self._client = connect(self._address) if self._address else Client(self._cluster, set_as_default=False)
        with self._lost():
            workers = self._wait_for_workers()
            if any(base[0] != "cpu" for base in self._requirements.bases) and any(map(_offers_gpu, workers.values())):
                self._resources = {"GPU": 1}
            while not (hardware := self._common_hardware()):  # all workers died meanwhile
                self._wait_for_workers()
            self._run_here = functools.partial(run_here, self._requirements, hardware, self._threads, self._topic)
            self._client.subscribe_topic(self._topic, lambda event: self._notes.put(event[1]))
            return self._client.get_executor(pure=False, **({"resources": self._resources} if self._resources else {}))

    def _result(self, future: Future[Result]) -> Result | WorkerDied:
        try:
            return future.result()
        except KilledWorker:
            return WorkerDied()
        except CancelledError:
            raise self._loss() from None

    def _pass_on(self, on_note: Tell) -> None:
        """Call ``on_note`` with the notes that have arrived."""
        if self._cluster is not None:
            replace_failed(self._cluster, self._count or 1)
        while not self._notes.empty():
            note = self._notes.get()
            on_note(tuple(note) if isinstance(note, list) else note)

    def _workers(self) -> dict[str, dict[str, Any]]:
        """By address, the scheduler's descriptions of the workers that may run our jobs."""
        assert self._client
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: worker for address, worker in workers.items() if not self._resources or _offers_gpu(worker)}

    def _wait_for_workers(self) -> dict[str, dict[str, Any]]:
        tell_at = time.monotonic() + 2
        while not (workers := self._workers()):
            if self._address and time.monotonic() > tell_at:
                tell_at = math.inf
                print(f"GEE_DASK = {self._address}: waiting for the scheduler's first worker", file=sys.stderr, flush=True)
            time.sleep(TICK)
            self._pass_on(ignore)
        return workers

    def _common_hardware(self) -> str:
        """The devices and precisions that all workers use.

        Raises:
            InputError: a worker fails `check_worker`, or workers use different ones.
        """
        assert self._client
        answers = self._client.run(check_here, self._requirements, workers=list(self._workers()), on_error="return")
        found: dict[str, str] = {}
        for address, answer in answers.items():
            if isinstance(answer, InputError):
                raise answer
            if type(answer) is Exception and str(answer).startswith(UNREADABLE):  # it cannot import check_here
                raise InputError(
                    f"the worker {address} cannot load this project ({answer})",
                    "install the same version there (pip install -e), then start it again (docs/CLUSTER.md)",
                )
            if isinstance(answer, OSError):  # it died meanwhile; its successor is checked before its first job
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.setdefault(answer, address)
        if len(found) > 1:
            each = "; ".join(f"{address} on {hardware}" for hardware, address in found.items())
            raise InputError(f"workers would compute differently ({each})", "set base.device and base.precision, not auto")
        return min(found, default="")

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Turn the many errors that a lost scheduler causes into one InputError."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            is_running = self._client is not None and self._client.status == "running"
            if is_running and not isinstance(error, OSError | CancelledError):  # timeouts are OSErrors
                raise
            raise self._loss() from None

    def _loss(self) -> InputError:
        remedy = "start the same command again: it continues where it stopped"
        if self._address:
            remedy = "start the scheduler and its workers again, then the same command: it continues where it stopped"
        return InputError(f"GEE_DASK = {self._address or 'not set'}: the scheduler is gone or cancelled our jobs", remedy)


def connect(address: str) -> Client:
    """A client of the scheduler at ``address``, which may be the path of its scheduler file, as seen from the project folder.

    Raises:
        InputError: there is no scheduler, or it does not answer.
    """
    remedy = "start one (`dask scheduler`, docs/CLUSTER.md), or unset GEE_DASK for workers on this machine"
    try:
        is_file = "://" not in address and not address.rpartition(":")[2].isdecimal()  # no url, no host:port
        path = original_project(Path.cwd()) / address
        found = json.loads(path.read_text(encoding="utf-8"))["address"] if is_file else address
    except OSError as error:
        raise InputError(f"GEE_DASK = {address}: no scheduler file there ({error.strerror})", remedy) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"GEE_DASK = {address}: not a scheduler file, or damaged", remedy) from None
    try:
        return Client(found, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"GEE_DASK = {address}: no scheduler answers there ({in_short(error)})", remedy) from None


def check_here(requirements: WorkerRequirements, dask_worker: Worker | None = None) -> str:
    """`check_worker` on this worker.

    Raises:
        InputError: it does not meet the requirements; names the worker.
    """
    worker = dask_worker or get_worker()
    try:
        if worker.state.nthreads != 1:
            raise InputError(f"has {worker.state.nthreads} threads", "start it with --nthreads 1, once per core or GPU")
        if limit := worker.memory_manager.memory_limit:
            raise InputError(f"has dask's memory limit of {limit / 2**30:.2f} GiB", "start it with --memory-limit 0")
        return _checked(requirements)
    except InputError as error:
        raise InputError(f"the worker {worker.address} {error} (docs/CLUSTER.md)") from None


def run_here(
    requirements: WorkerRequirements, hardware: str, threads: int, topic: str, function: Function[Job, Result], job: Job
) -> Result:
    """Run a job on this worker; it is checked here, since it may have joined after the others were checked."""
    worker = get_worker()
    own = check_here(requirements)
    if own != hardware:
        raise InputError(f"the worker {worker.address} computes on {own}, the others on {hardware} (docs/CLUSTER.md)")
    torch.set_num_threads(threads)
    return function(job, lambda note: worker.log_event(topic, note))


@functools.lru_cache(maxsize=1)
def _checked(requirements: WorkerRequirements) -> str:
    """Check the worker once per run: it may serve several runs, which may have other images in the same folder."""
    hardware = check_worker(requirements)
    forget_images()
    keep_freed_memory()
    return hardware


def local_cluster() -> LocalCluster:
    """A scheduler in this process for single-threaded workers on this machine; it has no workers before `scale`."""
    resource_tracker.ensure_running()  # now, because starting it unblocks signals
    # The scheduler's threads and the workers inherit this, so that only this process gets Ctrl-C.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": MAX_TRIES - 1}):
            return LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=None,
                silence_logs=logging.CRITICAL,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def replace_failed(cluster: LocalCluster, count: int) -> None:
    """Replace workers that died while starting; workers that die later are restarted by dask's nannies."""
    failed = [name for name, nanny in list(cluster.workers.items()) if nanny.status == Status.failed]
    if failed:
        cluster.sync(cluster.scale_down, failed)
        cluster.scale(count)


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool(worker["resources"].get("GPU", 0) >= 1)
