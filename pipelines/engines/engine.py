"""The interface of engines, and `run_each`, which runs jobs on one and retries those whose worker died."""

import multiprocessing
import os
import sys
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from gee_core.errors import in_short
from gee_core.memory import lost_gpu

MAX_TRIES = 2
"""Number of times that a job is submitted alone after a worker died, before it counts as failed."""

MAX_BREAKS = 3
"""Number of times that a job is hit by deaths that others are to blame for, before it is submitted alone."""

TICK = 0.2
"""Seconds between two checks for notes and new workers."""

Job = TypeVar("Job")
Tell = Callable[[Any], None]
"""Sends a note from a job to the process that waits for it."""
Function = Callable[[Job, Tell], Any]
"""The work of a job: a function that can be pickled."""


class WorkerDied(Exception):  # noqa: N818  (it is also returned as a result)
    """The worker of a job died every time that the job was tried."""


def leave_if_lost_gpu(error: BaseException, job: str) -> None:
    """End this worker process if it cannot use its GPU any more: ``run_each`` then runs the ``job`` again in a new one."""
    if multiprocessing.parent_process() is not None and lost_gpu(error):
        print(f"gee: {job} runs again in a new process: {in_short(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # here all further jobs would fail alike


def ignore(note: Any) -> None:
    """Drop a note."""


class Engine(AbstractContextManager):
    """Runs jobs on an executor, which is started for the first job and again after it broke, and stopped on exit."""

    tries_alone = MAX_TRIES

    def __init__(self) -> None:
        self.on_note: Tell = ignore
        self._executor: Executor | None = None

    def __exit__(self, *exception) -> None:
        self.stop()

    def executor(self) -> Executor:
        """The running executor."""
        if self._executor is None:
            self._executor = self.start()
        return self._executor

    def submit(self, function: Function, job: Any) -> Future:
        """Schedule ``function(job, tell)``."""
        return self.executor().submit(function, job, self.on_note)

    @abstractmethod
    def start(self) -> Executor:
        """A new executor."""

    def warm_up(self) -> None:
        """Start the executor early, where that takes time, while the caller does other things."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the executor at once, together with its running jobs."""

    @abstractmethod
    def room(self) -> int:
        """Number of jobs that may be submitted at once: few, since all of them are retried if a worker dies."""

    def after_break(self, futures: set[Future]) -> set[Future]:
        """Stop the executor, which broke while it had ``futures``; returns those whose worker may have died by itself."""
        self.stop()
        return futures

    def result(self, future: Future) -> Any:
        """The result of a finished future.

        Raises:
            BrokenExecutor: a worker died, maybe that of another job, and the executor with it.
            WorkerDied: the job's own worker died.
            Exception: whatever the job raised.
        """
        return future.result()

    def pass_on(self) -> None:
        """Call ``on_note`` with the notes that have arrived; an engine without notes does nothing."""


def run_each(engine: Engine, function: Function, jobs: Sequence[Job], on_note: Tell = ignore) -> Iterator[tuple[Job, Any]]:
    """Yield (job, result) in order of completion; the result is a `WorkerDied` if the job's worker died every time.

    An exception of a job ends the iteration. ``on_note`` is called with the notes of the jobs, before their results.
    """
    engine.on_note = on_note
    left = dict(enumerate(jobs))
    for number, result in _together(engine, function, dict(left)):
        yield left.pop(number), result
    for job in left.values():  # some of them killed their worker: running them alone shows which
        yield job, _alone(engine, function, job)


def _together(engine: Engine, function: Function, jobs: dict[int, Job]) -> Iterator[tuple[int, Any]]:
    """(number, result) of every job, except those that may have killed their worker."""
    queue, running, broken, breaks = deque(jobs), {}, {}, Counter[int]()
    while queue or running:
        while queue and not broken and len(running) < engine.room():
            number = queue.popleft()
            running[engine.submit(function, jobs[number])] = number
        for future in _wait(engine, running):
            number = running.pop(future)
            try:
                yield number, engine.result(future)
            except BrokenExecutor:  # every running job raises this
                broken[future] = number
            except WorkerDied:
                continue
        if broken and not running:
            suspects = engine.after_break(set(broken))
            breaks.update(broken.values())
            again = [number for future, number in broken.items() if future not in suspects and breaks[number] < MAX_BREAKS]
            queue.extendleft(sorted(again, reverse=True))
            broken = {}


def _alone(engine: Engine, function: Function, job: Job) -> Any:
    for _ in range(engine.tries_alone):
        future = engine.submit(function, job)
        while not _wait(engine, [future]):
            pass
        try:
            return engine.result(future)
        except BrokenExecutor:
            engine.stop()
        except WorkerDied:
            continue
    return WorkerDied()


def _wait(engine: Engine, futures) -> set[Future]:
    """The finished futures, after at most one tick."""
    done, _ = wait(futures, TICK, FIRST_COMPLETED)
    engine.pass_on()
    return done
