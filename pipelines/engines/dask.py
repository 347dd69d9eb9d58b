"""A pool of the workers of a dask scheduler (docs/CLUSTER.md). The only file that imports dask.

Workers may join and leave at any time. There are never more jobs than workers, so a worker that dies loses only its own job,
which dask runs again.
"""

import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from distributed import Client, KilledWorker, get_worker
from distributed import Future as Sent
from distributed.comm.addressing import resolve_address

import gee_core
from gee_core.compute import Compute
from gee_core.config import BaseConfig
from gee_core.errors import InputError, in_short
from gee_core.evolution.proxy import forget_images
from gee_core.settings import CoreSettings, keep_freed_memory
from gee_core.storage.atomic_files import sha256
from pipelines.engines.pools import P, Pool, Result
from pipelines.project.paths import original_project
from pipelines.runtime.redact import redact

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
    hardware: str = ""
    """Devices and precisions of the jobs on the first worker; empty before it is asked."""


class Dask(Pool):
    """Runs one job at a time on each worker. Each worker is checked before its first job."""

    def __init__(self, count: int | None, threads: int, requirements: Requirements, address: str):
        """``count``: jobs at once, None for one per worker. ``address``: a scheduler's, or the path of its scheduler file."""
        for name in LOGS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._count, self._threads, self._address = count, threads, address
        self._resources: dict[str, int] | None = None
        self._client = connect(address)
        try:
            with self._lost():
                self._requirements = self._meet_workers(requirements)
        except BaseException:
            self.shutdown()
            raise

    def room(self) -> int:
        with self._lost():
            return max(1, min(self._count or sys.maxsize, len(self._workers())))

    def submit(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        job = functools.partial(function, *args, **kwargs)
        with self._lost():
            sent = self._client.submit(run_here, self._requirements, self._threads, job, pure=False, resources=self._resources)
        future = Future[Result]()
        sent.add_done_callback(functools.partial(self._finish, future))
        return future

    def _finish(self, future: Future[Result], sent: Sent) -> None:
        try:
            future.set_result(sent.result())
        except KilledWorker as error:
            future.set_exception(BrokenExecutor(str(error)))
        except CancelledError:
            future.set_exception(self._loss())
        except Exception as error:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the jobs and leave the scheduler."""
        with suppress(Exception):  # what cannot be closed ends with this process
            self._client.close(timeout=CLOSE_SECONDS)

    def _meet_workers(self, requirements: Requirements) -> Requirements:
        """Wait for the first worker. Returns what all must have in common, the hardware of the first among it."""
        if not self._workers():
            waits = f"GEE_DASK = {redact(self._address)}: waiting for the scheduler's first worker"
            print(waits, file=sys.stderr, flush=True)
            self._client.wait_for_workers(1)
        if any(device != "cpu" for device, _ in requirements.bases) and any(map(_offers_gpu, self._workers().values())):
            self._resources = {"GPU": 1}
        answers = self._client.run(check_worker, requirements, workers=list(self._workers()), on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, InputError):
                raise _named(answer, address)
            if isinstance(answer, str):
                requirements = replace(requirements, hardware=answer)
            elif not isinstance(answer, OSError):  # which has died meanwhile; a job would never come back
                remedy = "install the same version there (pip install -e), then start it again (docs/CLUSTER.md)"
                raise InputError(f"the worker {address} cannot load this project ({answer})", remedy)
        return requirements

    def _workers(self) -> dict[str, dict[str, Any]]:
        """The scheduler's descriptions of the workers that may run our jobs. InputError for one that was started otherwise."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        found = {address: worker for address, worker in workers.items() if not self._resources or _offers_gpu(worker)}
        for address, worker in found.items():
            if worker["nthreads"] != 1:
                problem = f"has {worker['nthreads']} threads"
                raise _named(InputError(problem, "start it with --nthreads 1, once per core or GPU"), address)
            if limit := worker["memory_limit"]:
                problem = f"has dask's memory limit of {limit / 2**30:.2f} GiB"
                raise _named(InputError(problem, "start it with --memory-limit 0"), address)
        return found

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Turn the many errors that a lost scheduler causes into one InputError."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            is_running = self._client.status == "running"
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


def run_here(requirements: Requirements, threads: int, job: Callable[[], Result]) -> Result:
    """Run a job on this worker, which is checked before its first job."""
    try:
        enter(requirements)
    except InputError as error:
        raise _named(error, get_worker().address) from None
    torch.set_num_threads(threads)
    return job()


@functools.lru_cache(maxsize=1)  # a worker may serve several runs, which may have other images in the same folder
def enter(required: Requirements) -> None:
    """Check this worker, go to the project folder and forget the images of the run before. InputError as of `check_worker`."""
    check_worker(required)
    os.chdir(required.folder)
    forget_images()
    keep_freed_memory()


def check_worker(required: Requirements) -> str:
    """The devices and precisions that jobs use on this worker.

    Raises:
        InputError: something differs from what is required.
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
    hardware = ", ".join(f"{compute.device.type} {compute.number_format}" for compute in computes)
    if required.hardware not in ("", hardware):
        raise InputError(
            f"computes on {hardware}, another on {required.hardware}", "set base.device and base.precision, not auto"
        )
    return hardware


def _named(error: InputError, address: str) -> InputError:
    """``error`` of the worker at ``address``."""
    return InputError(f"the worker {address} {error}")


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool(worker["resources"].get("GPU", 0) >= 1)
