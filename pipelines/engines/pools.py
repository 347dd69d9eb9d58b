"""Pools of workers, which are executors of `concurrent.futures`: this process itself, or processes of this machine."""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

from gee_core.errors import in_short, lost_gpu
from gee_core.settings import keep_freed_memory
from pipelines.runtime.process_tree import die_with_parent

Job = TypeVar("Job")
P = ParamSpec("P")
Result = TypeVar("Result")

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
"""How processes start: forked from one that has loaded what all need, or each by itself."""

TICK = 0.5
"""Seconds between two looks for workers that have joined or left."""


class Pool(Executor):
    """An executor that says how many jobs it runs at once. The result of a job whose worker died is a `BrokenExecutor`."""

    def room(self) -> int:
        """Number of jobs at once. It may change."""
        return 1

    def end_idle(self) -> None:
        """End the workers that have nothing to do, if they are of this pool: they hold memory."""


def run_each(
    pool: Pool, function: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Result | BrokenExecutor]]:
    """Yield (job, ``function(job)``) in order of completion, with a `BrokenExecutor` in place of a result that never came.

    A job whose worker died is tried once more at the end, alone. An exception of a job ends the iteration. ``function`` can be
    pickled. The caller opens and closes the ``pool``: ``with open_pool(…) as pool``.
    """
    lost = []
    for job, future in _try_each(pool, function, jobs):
        if isinstance(future.exception(), BrokenExecutor):
            lost.append(job)
        else:
            yield job, future.result()
    for job in lost:  # alone: memory may have run out
        pool.end_idle()
        ((_, future),) = _try_each(pool, function, [job])
        error = future.exception()
        yield job, error if isinstance(error, BrokenExecutor) else future.result()


def _try_each(pool: Pool, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[tuple[Job, Future[Result]]]:
    left, running = deque(jobs), dict[Future[Result], Job]()
    while left or running:
        while left and len(running) < pool.room():
            job = left.popleft()
            running[pool.submit(function, job)] = job
        ended = wait(running, TICK, FIRST_COMPLETED).done
        for future in [future for future in running if future in ended]:
            yield running.pop(future), future


def leave_if_lost_gpu(error: BaseException, job: str) -> None:
    """End this worker process if it cannot use its GPU any more: ``run_each`` then runs the ``job`` again in a new one."""
    if multiprocessing.parent_process() is not None and lost_gpu(error):
        print(f"gee: {job} runs again in a new process: {in_short(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # here all further jobs would fail alike


class Serial(Pool):
    """Runs a job in this process when it is submitted, with ``threads`` torch threads (None: as many as the process has)."""

    def __init__(self, threads: int | None = None):
        self._threads = threads

    def submit(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        import torch

        future, threads = Future[Result](), torch.get_num_threads()
        torch.set_num_threads(self._threads or threads)
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        finally:
            torch.set_num_threads(threads)
        return future


class Processes(Pool):
    """``count`` processes with ``threads`` torch threads each. Each is a pool of its own, so that its death loses one job.

    Each sees one of ``gpus``, in turn (names for CUDA_VISIBLE_DEVICES). Without ``gpus`` each sees the GPUs of this process.
    They end with this process.
    """

    def __init__(self, count: int, threads: int = 1, gpus: Sequence[str] = ()):
        self._count, self._threads, self._gpus = count, threads, gpus
        self._pools = dict[int, ProcessPoolExecutor]()
        self._last = dict[int, Future[Any]]()
        """The last job of each process, by its place."""

    def room(self) -> int:
        return self._count

    def submit(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        place = next((n for n in range(self._count) if n not in self._last or self._last[n].done()), 0)
        try:
            future = self._pool(place).submit(function, *args, **kwargs)
        except BrokenExecutor:  # the process has died since its last job
            self._end(place)
            future = self._pool(place).submit(function, *args, **kwargs)
        self._last[place] = future
        return future

    def end_idle(self) -> None:
        for place, future in list(self._last.items()):
            if future.done():
                self._end(place)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes at once, together with the running jobs."""
        for place in list(self._last):
            self._end(place)

    def _pool(self, place: int) -> ProcessPoolExecutor:
        if place not in self._pools:
            CONTEXT.set_forkserver_preload(["gee_core.evolution.proxy"])  # it imports torch and starts no thread
            env = {"CUDA_VISIBLE_DEVICES": self._gpus[place % len(self._gpus)]} if self._gpus else {}
            self._pools[place] = ProcessPoolExecutor(1, CONTEXT, _begin, (os.environ | env, self._threads))
        return self._pools[place]

    def _end(self, place: int) -> None:
        self._last.pop(place)
        pool = self._pools.pop(place)
        for process in list(pool._processes.values()):  # the public `kill_workers` is in Python 3.14
            process.kill()
        pool.shutdown()


def _begin(env: dict[str, str], threads: int) -> None:
    """What a process does before its first job."""
    os.environ.clear()  # that of the process that this one is forked from may be older
    os.environ.update(env)  # torch has not asked the driver for GPUs yet
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the process that waits for the jobs ends this one
    die_with_parent()
    keep_freed_memory()
    torch.set_num_threads(threads)
