"""Jobs given to an executor, whichever it is: each once, and again where its worker died, in order of completion."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, TypeVar

MAX_TRIES = 2
"""How often a job is tried by itself after a worker died, before it is given up."""

TICK = 0.2
"""Seconds after which notes are passed on and new workers noticed, at the latest."""

Job = TypeVar("Job")
Tell = Callable[[Any], None]
"""Sends a note from a job to the process that waits for it."""
Function = Callable[[Job, Tell], Any]
"""What is done with a job, wherever the engine does it: a function that can be pickled."""


class WorkerDied(Exception):  # noqa: N818  (it is also given back as a result)
    """The worker of a job died every time that the job was tried."""


def ignore(note: Any) -> None:
    """For whoever wants no notes."""


class Engine(ABC):
    """An executor that starts when it is needed, and again after it broke; a context manager, which ends it at once."""

    tries_alone = MAX_TRIES
    """How often a job is submitted by itself before it is given up."""

    def __init__(self) -> None:
        self.on_note: Tell = ignore
        self._executor: Executor | None = None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def submit(self, function: Function, job: Any) -> Future:
        """Start ``function(job, tell)``, now or when its turn comes."""
        if self._executor is None:
            self._executor = self.start()
        return self._executor.submit(function, job, self.on_note)

    @abstractmethod
    def start(self) -> Executor:
        """What jobs are submitted to."""

    @abstractmethod
    def stop(self) -> None:
        """End the executor now, with the jobs that it has begun."""

    @abstractmethod
    def room(self) -> int:
        """How many jobs may be with the executor at once: few, since a death casts suspicion on all of them."""

    def result(self, future: Future) -> Any:
        """What the job of a finished future returned.

        Raises:
            BrokenExecutor: a worker died, perhaps another job's, and the executor with it.
            WorkerDied: the job's own worker died.
            Exception: whatever the job raised.
        """
        return future.result()

    def pass_on(self) -> None:  # noqa: B027  (one that has no notes need not do anything)
        """Give ``on_note`` the notes that have come in."""


def run_each(engine: Engine, function: Function, jobs: Sequence[Job], on_note: Tell = ignore) -> Iterator[tuple[Job, Any]]:
    """Yield (job, result) in order of completion; the result is a `WorkerDied` where the job's worker always died.

    A job that raises ends the whole. ``on_note`` is given what the jobs tell, a job's notes before its result.
    """
    engine.on_note = on_note
    left = dict(enumerate(jobs))
    for number, result in _together(engine, function, dict(left)):
        yield left.pop(number), result
    for job in left.values():  # one of them killed its worker: who it was shows one at a time
        yield job, _alone(engine, function, job)


def _together(engine: Engine, function: Function, jobs: dict[int, Job]) -> Iterator[tuple[int, Any]]:
    """(number, result) of every job but those that were with the executor when a worker died."""
    queue, running, broken = deque(jobs), {}, False
    while queue or running:
        while queue and not broken and len(running) < engine.room():
            number = queue.popleft()
            running[engine.submit(function, jobs[number])] = number
        for future in _wait(engine, running):
            try:
                yield running.pop(future), engine.result(future)
            except BrokenExecutor:  # all that are running will say so
                broken = True
            except WorkerDied:
                continue
        if broken and not running:
            engine.stop()
            broken = False


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
    """Those that are done, after a tick at the latest."""
    done, _ = wait(futures, TICK, FIRST_COMPLETED)
    engine.pass_on()
    return done
