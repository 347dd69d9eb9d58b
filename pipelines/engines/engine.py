"""The interface of engines, the engine `serial`, and `run_each`, which runs jobs on an engine."""

import multiprocessing
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from gee_core.errors import in_short
from gee_core.memory import lost_gpu

Job = TypeVar("Job")
Result = TypeVar("Result")
Tell = Callable[[Any], None]
"""Sends a note from a job to the process that waits for it."""
Function = Callable[[Job, Tell], Result]
"""The work of a job: a function that can be pickled."""

MAX_TRIES = 2
"""Number of times that a job whose worker died runs again, alone, before it counts as failed."""


class WorkerDied(NamedTuple):
    """The result of a job whose worker died."""

    exitcode: int | None = None
    """As in `multiprocessing.Process.exitcode`; None for a worker of another machine."""


Outcomes = Iterator[tuple[Job, Result | WorkerDied]]
"""Each job with its result, as it ends."""


def leave_if_lost_gpu(error: BaseException, job: str) -> None:
    """End this worker process if it cannot use its GPU any more: ``run_each`` then runs the ``job`` again in a new one."""
    if multiprocessing.parent_process() is not None and lost_gpu(error):
        print(f"gee: {job} runs again in a new process: {in_short(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # here all further jobs would fail alike


def ignore(note: Any) -> None:
    """Drop a note."""


class Engine(ABC):
    """Runs jobs. It is started for the first job, and stopped on exit."""

    tries_alone = MAX_TRIES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @abstractmethod
    def each(self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell) -> Outcomes[Job, Result]:
        """As `run_each`, but each job is tried once."""

    def stop(self) -> None:  # noqa: B027 - Serial has nothing to stop
        """Stop at once, together with the running jobs."""

    def room(self) -> int:
        """Number of jobs that run at the same time."""
        return 1


def run_each(
    engine: Engine, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell = ignore
) -> Outcomes[Job, Result]:
    """Yield (job, result) in order of completion. The result is a `WorkerDied` if the job's worker died every time.

    An exception of a job ends the iteration. ``on_note`` is called with the notes of the jobs, before their results.
    """
    again = []
    for job, result in engine.each(function, jobs, on_note):
        if isinstance(result, WorkerDied):
            again.append(job)
        else:
            yield job, result
    for job in again:  # alone: memory may have run out
        for _ in range(engine.tries_alone):
            ((_, result),) = engine.each(function, [job], on_note)
            if not isinstance(result, WorkerDied):
                break
        yield job, result


class Serial(Engine):
    """Runs jobs in this process, one after the other, with ``threads`` torch threads (None: as many as the process has)."""

    def __init__(self, threads: int | None = None):
        self._threads = threads

    def each(self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell) -> Outcomes[Job, Result]:
        import torch

        threads = torch.get_num_threads()
        for job in jobs:
            torch.set_num_threads(self._threads or threads)
            try:
                result = function(job, on_note)
            finally:
                torch.set_num_threads(threads)
            yield job, result
