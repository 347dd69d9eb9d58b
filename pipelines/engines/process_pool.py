"""The engine `processes`: worker processes on this machine."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

from gee_core.memory import keep_freed_memory
from pipelines.engines.engine import Engine, Function
from pipelines.runtime.process_tree import die_with_parent, leave

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How processes start: forked from one that has loaded what all need, or each by itself."""

PRELOADED = ["gee_core.evolution.proxy"]
"""Loaded once, by the process that the others are forked from; it imports torch and starts no thread."""

GRACE = 5.0
"""Seconds that idle processes have to end by themselves, and terminated ones until they are killed."""


class Processes(Engine):
    """``count`` processes with ``threads`` torch threads each. If one dies, the pool breaks and all are replaced.

    Each sees one of ``gpus``, in turn (names for CUDA_VISIBLE_DEVICES); if there are none, what this process sees.
    """

    def __init__(self, count: int, threads: int = 1, gpus: Sequence[str] = ()):
        super().__init__()
        self._count, self._threads, self._gpus = count, threads, gpus
        self._processes: dict[int, BaseProcess] = {}

    def start(self) -> Executor:
        context = get_context(METHOD)
        context.set_forkserver_preload(PRELOADED)
        self._notes = context.SimpleQueue()  # a new queue: a killed process may hold the lock of the old one
        own_gpus = context.SimpleQueue()
        for _, gpu in zip(range(self._count), itertools.cycle(self._gpus), strict=False):
            own_gpus.put(gpu)
        self._processes = {}
        setup = self._threads, self._notes, dict(os.environ), own_gpus if self._gpus else None
        return ProcessPoolExecutor(self._count, context, start_worker, setup)

    def warm_up(self) -> None:
        self.executor().submit(os.getpid)

    def stop(self) -> None:
        if self._executor is not None:
            self._note_processes()
            end_pool(self._executor, list(self._processes.values()))
            self._executor = None

    def room(self) -> int:
        return self._count + 1  # one job waits, so that no process has to

    def submit(self, function: Function, job: Any) -> Future:
        try:
            future = self.executor().submit(_run, function, job)
        except BrokenProcessPool:  # an idle process died
            self.stop()
            future = self.executor().submit(_run, function, job)
        self._note_processes()
        return future

    def _note_processes(self) -> None:
        """Keep the processes of the executor, which forgets them when it breaks."""
        self._processes |= dict(self._executor._processes or {})

    def pass_on(self) -> None:
        while not self._notes.empty():
            self.on_note(self._notes.get())


def end_pool(pool: ProcessPoolExecutor, processes: list[BaseProcess]) -> None:
    """End the pool and its ``processes`` now: idle ones end by themselves, busy ones are terminated, frozen ones killed."""
    busy = bool(pool._pending_work_items)
    pool.shutdown(wait=False, cancel_futures=True)
    # Python's resource tracker warns about the semaphores of a terminated process
    left = _running_after(0 if busy else GRACE, processes)
    for process in left:
        process.terminate()
    for process in _running_after(GRACE, left):
        process.kill()


def _running_after(seconds: float, processes: list[BaseProcess]) -> list[BaseProcess]:
    """Those that still run after so long; none of them is asked for its exit code, which the pool's own thread reads."""
    deadline = time.monotonic() + seconds
    return [process for process in processes if not wait([process.sentinel], max(0, deadline - time.monotonic()))]


_tell: list[Callable[[Any], None]] = []


def start_worker(threads: int, notes, env: dict[str, str], own_gpus) -> None:
    """Set up a worker process: it ends with its owner or on SIGTERM, keeps freed memory and uses ``threads`` torch threads.

    ``env``: its owner's environment, which may have changed since the process that it is forked from was started.
    ``own_gpus``: a queue with a GPU for each worker, or None.
    """
    import torch

    os.environ.clear()
    os.environ.update(env)
    if own_gpus is not None:  # torch has not asked the driver for GPUs yet
        os.environ["CUDA_VISIBLE_DEVICES"] = own_gpus.get()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler could wait for ever for a lock that a dead process held
    die_with_parent()
    keep_freed_memory()
    torch.set_num_threads(threads)
    Finalize(None, leave, exitpriority=-1000)  # after all others
    _tell[:] = [notes.put]


def _run(function: Function, job: Any) -> Any:
    return function(job, _tell[0])
