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
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

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
        self._numbers: WeakKeyDictionary[Future, int] = WeakKeyDictionary()
        self._count_jobs = itertools.count()
        self._begun_in: dict[int, int] = {}

    def start(self) -> Executor:
        context = get_context(METHOD)
        context.set_forkserver_preload(PRELOADED)
        self._notes = context.SimpleQueue()  # a new queue: a killed process may hold the lock of the old one
        own_gpus = context.SimpleQueue()
        for _, gpu in zip(range(self._count), itertools.cycle(self._gpus), strict=False):
            own_gpus.put(gpu)
        self._processes, self._begun_in = {}, {}
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
        number = next(self._count_jobs)
        try:
            future = self.executor().submit(_run, function, job, number)
        except BrokenProcessPool:  # an idle process died
            self.stop()
            future = self.executor().submit(_run, function, job, number)
        self._numbers[future] = number
        self._note_processes()
        return future

    def _note_processes(self) -> None:
        """Keep the processes of the executor, which forgets them when it breaks."""
        self._processes |= dict(self._executor._processes or {})

    def pass_on(self) -> None:
        while not self._notes.empty():
            note = self._notes.get()
            if isinstance(note, _Begun):
                self._begun_in[note.number] = note.pid
            else:
                self.on_note(note)

    def after_break(self, futures: set[Future]) -> set[Future]:
        """The futures of the processes that died (the executor terminated all others); all of them where that is not clear."""
        self.pass_on()
        thread, processes = self._executor._executor_manager_thread, self._processes
        self.stop()
        thread.join(GRACE)  # it reads the exit codes
        if thread.is_alive():
            return futures
        died = {pid for pid, process in processes.items() if process.exitcode != -signal.SIGTERM}
        in_order = sorted(futures, key=self._numbers.__getitem__)  # a process may have two, the first of them done
        by_pid = {self._begun_in.get(self._numbers[future]): future for future in in_order}
        if not died or not died <= set(by_pid):
            return futures
        return {by_pid[pid] for pid in died}


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


class _Begun(NamedTuple):
    """The note of a process that it begins with a job."""

    number: int
    pid: int


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


def _run(function: Function, job: Any, number: int) -> Any:
    _tell[0](_Begun(number, os.getpid()))
    return function(job, _tell[0])
