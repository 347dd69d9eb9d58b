"""The engine `dask`: jobs on the workers of a dask scheduler (docs/CLUSTER.md). The only file that imports dask.

Workers may join and leave at any time. There are never more jobs than workers, so a worker that dies loses only its own job,
which dask runs again.
"""

import functools
import hashlib
import json
import logging
import os
import queue
import sys
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from distributed import Client, KilledWorker, get_worker
from distributed.comm.addressing import resolve_address

import gee_core
from gee_core.config import BaseConfig
from gee_core.errors import InputError, in_short
from gee_core.evolution.proxy import forget_images
from gee_core.hardware import Compute
from gee_core.memory import keep_freed_memory
from gee_core.settings import CoreSettings
from gee_core.storage.atomic_files import sha256
from pipelines.engines.engine import Engine, Function, Job, Outcomes, Result, Tell, WorkerDied, ignore
from pipelines.project.paths import original_project
from pipelines.runtime.redact import redact

TICK = 0.2
"""Seconds between two checks for notes and new workers."""

CONNECT_SECONDS = 10
CLOSE_SECONDS = 20
LOGS = ("distributed", "distributed.client", "distributed.core", "distributed.nanny", "distributed.worker", "asyncio")
"""They are silenced: this project's own records and messages name lost workers and schedulers."""

PACKAGES = Path(gee_core.__file__).parent, Path(__file__).parents[1]
MODULES = [(path.relative_to(folder.parent), sha256(path)) for folder in PACKAGES for path in sorted(folder.rglob("*.py"))]
CODE = hashlib.sha256(repr(MODULES).encode()).hexdigest()[:12]
"""Hash of the code when this process loaded it, so that a worker that was started before an edit is refused."""


@dataclass(frozen=True)
class Requirements:
    """What a worker must have in common with the command. Can be pickled and hashed."""

    folder: Path
    """The project."""
    images: tuple[tuple[Path, str], ...]
    """Absolute folders of prepared images, each with the SHA-256 of its meta.json."""
    bases: tuple[tuple[str, str], ...]
    """`base.device` and `base.precision` of the jobs."""
    versions: tuple[tuple[str, str], ...]
    """Code, packages and variables on which the last bits of a result depend."""


class Dask(Engine):
    """Runs one job at a time on each worker. Each worker is checked before its first job."""

    tries_alone = 1  # dask itself retries, as often as the scheduler's allowed-failures say

    def __init__(self, count: int | None, threads: int, requirements: Requirements, address: str):
        """``count``: jobs at once, None for one per worker. ``address``: a scheduler's, or the path of its scheduler file."""
        self._count, self._threads, self._requirements, self._address = count, threads, requirements, address
        self._client: Client | None = None
        self._topic = f"gee-{uuid.uuid4().hex}"
        self._notes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._resources: dict[str, int] | None = None
        self._hardware = dict[str, str]()  # with the first worker that computes on it

    def each(self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell) -> Outcomes[Job, Result]:
        left, running = deque(jobs), dict[Future[tuple[str, str, Result]], Job]()
        client = self._client or self._start()
        executor = client.get_executor(pure=False, resources=self._resources)
        while left or running:
            while left and len(running) < self.room():
                job = left.popleft()
                with self._lost():
                    future = executor.submit(run_here, self._requirements, self._threads, self._topic, function, job)
                running[future] = job
            done, _ = wait(running, TICK, FIRST_COMPLETED)
            while not self._notes.empty():
                note = self._notes.get()
                on_note(tuple(note) if isinstance(note, list) else note)
            for future in done:
                result = self._result(future)
                yield running.pop(future), result

    def room(self) -> int:
        if self._client is None:
            return 1
        with self._lost():
            return max(1, min(self._count or sys.maxsize, len(self._workers())))

    def stop(self) -> None:
        if self._client is not None:
            with suppress(Exception):  # what cannot be closed ends with this process
                self._client.close(timeout=CLOSE_SECONDS)  # which cancels its jobs
        self._client = None

    def _start(self) -> Client:
        for name in LOGS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        client = self._client = connect(self._address)
        with self._lost():
            if not self._workers():
                waits = f"GEE_DASK = {redact(self._address)}: waiting for the scheduler's first worker"
                print(waits, file=sys.stderr, flush=True)
                client.wait_for_workers(1)
            for address, answer in client.run(ignore, None, on_error="return").items():  # a job would never come back
                if isinstance(answer, Exception) and not isinstance(answer, OSError):  # OSError: it died meanwhile
                    remedy = "install the same version there (pip install -e), then start it again (docs/CLUSTER.md)"
                    raise InputError(f"the worker {address} cannot load this project ({answer})", remedy)
            if any(device != "cpu" for device, _ in self._requirements.bases) and any(map(_offers_gpu, self._workers())):
                self._resources = {"GPU": 1}
            client.subscribe_topic(self._topic, lambda event: self._notes.put(event[1]))
        return client

    def _result(self, future: Future[tuple[str, str, Result]]) -> Result | WorkerDied:
        try:
            address, hardware, result = future.result()
        except KilledWorker:
            return WorkerDied()
        except CancelledError:
            raise self._loss() from None
        self._hardware.setdefault(hardware, address)
        if len(self._hardware) > 1:
            each = "; ".join(f"{address} on {hardware}" for hardware, address in self._hardware.items())
            raise InputError(f"workers would compute differently ({each})", "set base.device and base.precision, not auto")
        return result

    def _workers(self) -> list[dict[str, Any]]:
        """The scheduler's descriptions of the workers that may run our jobs."""
        assert self._client
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return [worker for worker in workers if not self._resources or _offers_gpu(worker)]

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
        again = "start the scheduler and its workers again, then the same command: it continues where it stopped"
        return InputError(f"GEE_DASK = {self._address}: the scheduler is gone or cancelled our jobs", again)


def connect(address: str) -> Client:
    """A client of the scheduler at ``address``, which may be the path of its scheduler file, as seen from the project folder.

    Raises:
        InputError: the address has a user or password, there is no scheduler, or it does not answer.
    """
    is_file = "://" not in address and not address.rpartition(":")[2].isdecimal()  # no url, no host:port
    if "@" in address and not is_file:
        problem = f"GEE_DASK = ***@{address.rpartition('@')[2]}: a scheduler of dask takes no user and no password"
        raise InputError(problem, "leave them out; docs/CLUSTER.md says how TLS protects the connection")
    try:
        path = original_project(Path.cwd()) / address
        listening = json.loads(path.read_text(encoding="utf-8"))["address"] if is_file else address
        resolve_address(listening)  # a client that is given an unusable address hangs for 20 s when it is deleted
        return Client(listening, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:  # of the file, of the address, of the network, or of TLS
        problem = f"GEE_DASK = {address}: no scheduler answers, or its file is damaged ({in_short(error)})"
        remedy = "start one (`dask scheduler`, docs/CLUSTER.md), or unset GEE_DASK for workers on this machine"
        raise InputError(problem, remedy) from None


def own_requirements(images: Iterable[Path], bases: Iterable[BaseConfig]) -> Requirements:
    """The requirements of this process, for jobs that read the folders ``images`` and have these sections `base`."""
    folders = sorted({folder.absolute() for folder in images})
    return Requirements(
        Path.cwd(),
        tuple((folder, sha256(folder / "meta.json")) for folder in folders),
        tuple(sorted({(base.device, base.precision) for base in bases})),
        _versions(),
    )


def _versions() -> tuple[tuple[str, str], ...]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    release = torch.__version__.partition("+")[0]
    return ("code", CODE), ("torch", release), ("Python", python), *CoreSettings.read().rounding().items()


def run_here(
    requirements: Requirements, threads: int, topic: str, function: Function[Job, Result], job: Job
) -> tuple[str, str, Result]:
    """Check this worker and run a job on it. Returns its address, its devices and precisions, and the result."""
    worker = get_worker()
    try:
        if worker.state.nthreads != 1:
            raise InputError(f"has {worker.state.nthreads} threads", "start it with --nthreads 1, once per core or GPU")
        if limit := worker.memory_manager.memory_limit:
            raise InputError(f"has dask's memory limit of {limit / 2**30:.2f} GiB", "start it with --memory-limit 0")
        hardware = check_worker(requirements)
    except InputError as error:
        raise InputError(f"the worker {worker.address} {error}") from None
    torch.set_num_threads(threads)
    return worker.address, hardware, function(job, lambda note: worker.log_event(topic, note))


@functools.lru_cache(maxsize=1)  # a worker may serve several runs, which may have other images in the same folder
def check_worker(required: Requirements) -> str:
    """Check this worker and go to the project folder. Returns the devices and precisions that jobs use here.

    Raises:
        InputError: something differs.
    """
    for (name, value), (_, here) in zip(required.versions, _versions(), strict=True):
        if here != value:
            problem = f"has {name} = {here}, not {value}"
            raise InputError(problem, "install the same code and packages, set the same variables, then start it again")
    for folder in (required.folder, *(folder for folder, _ in required.images)):
        if not folder.is_dir():
            raise InputError(f"cannot see {folder}", "mount the shared folder there under the same path")
    for folder, expected in required.images:
        if sha256(folder / "meta.json") != expected:
            raise InputError(f"sees other images in {folder}", "share the folder, or copy it there again")
    computes = [Compute.of(*base) for base in required.bases]
    os.chdir(required.folder)
    forget_images()
    keep_freed_memory()
    return ", ".join(f"{compute.device.type} {compute.number_format}" for compute in computes)


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool(worker["resources"].get("GPU", 0) >= 1)
