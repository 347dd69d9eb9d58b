"""The engine `dask`: jobs on the workers of a dask scheduler. The only file that knows dask; docs/CLUSTER.md has recipes.

Without an address a scheduler and workers are started here and end with this process. With one, workers come and go as
they like: no more jobs are submitted than there are workers, so one that dies takes no job with it but its own, which
dask runs again elsewhere.
"""

import functools
import json
import logging
import queue
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, LocalCluster, get_worker
from distributed.core import Status

from gee_core.errors import InputError
from gee_core.evolution.proxy import forget_images
from gee_core.hardware import keep_freed_memory
from pipelines.engines.engine import MAX_TRIES, TICK, Engine, Function, WorkerDied
from pipelines.engines.worker_check import WorkerRequirements, check_worker

CONNECT_SECONDS = 10
CLOSE_SECONDS = 20
UNREADABLE = ("ModuleNotFoundError", "ImportError", "AttributeError")
"""How the text of dask's error begins where a worker does not find what it is to call."""


class Dask(Engine):
    """Runs jobs on workers that agree with this process, one job on each at a time."""

    tries_alone = 1  # dask submits it again by itself, as often as the scheduler's allowed-failures say

    def __init__(self, count: int | None, threads: int, requirements: WorkerRequirements, address: str | None):
        """``count`` jobs side by side, None for all workers; ``address`` of a scheduler, or path of a scheduler file."""
        super().__init__()
        self._count, self._threads, self._requirements, self._address = count, threads, requirements, address
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._topic = f"gee-{uuid.uuid4().hex}"
        self._notes: queue.SimpleQueue = queue.SimpleQueue()
        self._resources: dict[str, int] = {}
        self._hardware = ""

    def start(self) -> Executor:
        _quiet()
        if self._address is None:
            self._cluster = local_cluster()
            self._cluster.scale(self._count or 1)
        self._client = Client(self._cluster, set_as_default=False) if self._cluster else connect(self._address)
        with self._lost():
            workers = self._wait_for_workers()
            if any(base[0] != "cpu" for base in self._requirements.bases) and any(map(_offers_gpu, workers.values())):
                self._resources = {"GPU": 1}
            while not (hardware := self._common_hardware()):  # all of them died meanwhile
                self._wait_for_workers()
            self._hardware = hardware
            self._client.subscribe_topic(self._topic, lambda event: self._notes.put(event[1]))
            return self._client.get_executor(pure=False, **({"resources": self._resources} if self._resources else {}))

    def stop(self) -> None:
        if self._executor is not None and self._client.status == "running":
            with suppress(Exception):  # a scheduler that is gone has nothing to cancel
                self._executor.shutdown(wait=False)
        for opened in (self._client, self._cluster):
            if opened is not None:
                with suppress(Exception):  # whoever will not close ends with this process
                    opened.close(timeout=CLOSE_SECONDS)
        self._executor = self._client = self._cluster = None

    def submit(self, function: Function, job: Any) -> Future:
        if self._executor is None:
            self._executor = self.start()
        with self._lost():
            return self._executor.submit(
                run_here, self._requirements, self._hardware, self._threads, self._topic, function, job
            )

    def room(self) -> int:
        if self._executor is None:
            return 1
        with self._lost():
            return max(1, min(self._count or sys.maxsize, len(self._workers())))

    def result(self, future: Future) -> Any:
        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerDied(str(error)) from None
        except CancelledError:
            raise self._loss() from None

    def pass_on(self) -> None:
        if self._cluster is not None:
            replace_failed(self._cluster, self._count or 1)
        with suppress(queue.Empty):
            while True:
                note = self._notes.get_nowait()
                self.on_note(tuple(note) if isinstance(note, list) else note)

    def _workers(self) -> dict[str, dict]:
        """What the scheduler knows of the workers that our jobs may go to, by address."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: worker for address, worker in workers.items() if not self._resources or _offers_gpu(worker)}

    def _wait_for_workers(self) -> dict[str, dict]:
        told = time.monotonic() + 2
        while not (workers := self._workers()):
            if self._address and told and time.monotonic() > told:
                told = 0
                print(f"GEE_DASK = {self._address}: waiting for the scheduler's first worker", file=sys.stderr, flush=True)
            time.sleep(TICK)
            self.pass_on()
        return workers

    def _common_hardware(self) -> str:
        """On what the workers compute, all of them alike.

        Raises:
            InputError: a worker does not agree with this process, or with the others.
        """
        answers = self._client.run(check_here, self._requirements, workers=list(self._workers()), on_error="return")
        found: dict[str, str] = {}
        for address, answer in answers.items():
            if isinstance(answer, InputError):
                raise answer
            if type(answer) is Exception and str(answer).startswith(UNREADABLE):  # it could not even read the question
                raise InputError(
                    f"the worker {address} cannot load this project ({answer}): install the same version there "
                    "(pip install -e), then start it again (docs/CLUSTER.md)"
                )
            if isinstance(answer, OSError):  # it died meanwhile; another in its place is checked before its first job
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.setdefault(answer, address)
        if len(found) > 1:
            each = "; ".join(f"{address} on {hardware}" for hardware, address in found.items())
            raise InputError(f"workers would compute differently ({each}): set base.device and base.precision, not auto")
        return min(found, default="")

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """What is raised where the scheduler is gone, as one message."""
        try:
            yield
        except InputError:
            raise
        except (OSError, CancelledError, TimeoutError):
            raise self._loss() from None
        except Exception:
            if self._client is not None and self._client.status == "running":
                raise
            raise self._loss() from None

    def _loss(self) -> InputError:
        return InputError(
            f"GEE_DASK = {self._address or 'not set'}: the scheduler is gone or cancelled our jobs: start it again, "
            "then the same command: it goes on where it stopped"
        )


def connect(address: str) -> Client:
    """A client of the scheduler at ``address``, or of the one whose scheduler file has this path.

    Raises:
        InputError: there is none, or it cannot be reached.
    """
    remedy = "start one (`dask scheduler`, docs/CLUSTER.md), or unset GEE_DASK for workers on this machine"
    try:
        is_file = "://" not in address and not address.rpartition(":")[2].isdecimal()  # no url, no host:port
        found = json.loads(Path(address).read_text(encoding="utf-8"))["address"] if is_file else address
    except OSError as error:
        raise InputError(f"GEE_DASK = {address}: no scheduler file there ({error.strerror}): {remedy}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"GEE_DASK = {address}: not a scheduler file, or damaged: {remedy}") from None
    try:
        return Client(found, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"GEE_DASK = {address}: no scheduler answers there ({reason}): {remedy}") from None


def check_here(requirements: WorkerRequirements, dask_worker=None) -> str:
    """On what this worker computes.

    Raises:
        InputError: it does not agree with the process that hands out the jobs; names the worker.
    """
    worker = dask_worker or get_worker()
    try:
        if worker.state.nthreads != 1:
            raise InputError(f"has {worker.state.nthreads} threads: start it with --nthreads 1, once per core or GPU")
        return _checked(requirements)
    except InputError as error:
        raise InputError(f"the worker {worker.address} {error} (docs/CLUSTER.md)") from None


def run_here(requirements: WorkerRequirements, hardware: str, threads: int, topic: str, function: Function, job: Any) -> Any:
    """Run a job on this worker, which may have joined after the others were checked."""
    worker = get_worker()
    own = check_here(requirements)
    if own != hardware:
        raise InputError(f"the worker {worker.address} computes on {own}, the others on {hardware} (docs/CLUSTER.md)")
    torch.set_num_threads(threads)
    return function(job, lambda note: worker.log_event(topic, note))


@functools.lru_cache(maxsize=1)
def _checked(requirements: WorkerRequirements) -> str:
    """Once for each run that comes to this process: a worker may serve several, with other images under one name."""
    hardware = check_worker(requirements)
    forget_images()
    keep_freed_memory()
    return hardware


def local_cluster() -> LocalCluster:
    """A scheduler in this process, for workers of one thread on this machine; has none before `scale`."""
    resource_tracker.ensure_running()  # now, since its start unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # its threads and workers inherit that: Ctrl-C is ours
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
    """Start others for workers that died while they started: dask's nannies start those again that died later."""
    failed = [name for name, nanny in list(cluster.workers.items()) if nanny.status == Status.failed]
    if failed:
        cluster.sync(cluster.scale_down, failed)
        cluster.scale(count)


def _offers_gpu(worker: dict) -> bool:
    return worker["resources"].get("GPU", 0) >= 1


def _quiet() -> None:
    """dask's own log: what it would say of workers and schedulers that are gone is in our records and messages."""
    for name in ("distributed", *(f"distributed.{part}" for part in ("client", "core", "nanny", "worker")), "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
