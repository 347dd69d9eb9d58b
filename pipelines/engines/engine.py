"""The interface of engines, the engines `serial` and `processes`, and `run_each`, which runs jobs on an engine."""

import multiprocessing
import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

from gee_core.errors import in_short
from gee_core.memory import lost_gpu
from pipelines.runtime.worker_process import Answer, Function, Job, Result, Tell, WorkerProcess, end_workers, wait_for_any

MAX_TRIES = 2
"""Number of times that a job whose worker died runs again, alone, before it counts as failed."""


class WorkerDied(Exception):  # noqa: N818  (it is returned as a result)
    """The worker of a job died every time that the job was tried."""


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
    def each(
        self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell
    ) -> Iterator[tuple[Job, Result | WorkerDied]]:
        """As `run_each`, but each job is tried once."""

    def stop(self) -> None:  # noqa: B027 - Serial has nothing to stop
        """Stop at once, together with the running jobs."""

    def room(self) -> int:
        """Number of jobs that run at the same time."""
        return 1


def run_each(
    engine: Engine, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell = ignore
) -> Iterator[tuple[Job, Result | WorkerDied]]:
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

    def each(
        self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell
    ) -> Iterator[tuple[Job, Result | WorkerDied]]:
        import torch

        threads = torch.get_num_threads()
        for job in jobs:
            torch.set_num_threads(self._threads or threads)
            try:
                result = function(job, on_note)
            finally:
                torch.set_num_threads(threads)
            yield job, result


class Processes(Engine):
    """``count`` processes with ``threads`` torch threads each.

    Each sees one of ``gpus``, in turn (names for CUDA_VISIBLE_DEVICES). Without ``gpus`` each sees the GPUs of this process.
    """

    def __init__(self, count: int, threads: int = 1, gpus: Sequence[str] = ()):
        self._count, self._threads, self._gpus = count, threads, gpus
        self._workers: dict[int, WorkerProcess] = {}

    def room(self) -> int:
        return self._count

    def stop(self) -> None:
        end_workers(list(self._workers.values()))
        self._workers = {}

    def each(
        self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell
    ) -> Iterator[tuple[Job, Result | WorkerDied]]:
        queue, running, died = deque(jobs), dict[int, Job](), False
        answers: list[tuple[Job, Answer]] = []
        try:
            while queue or running or answers:
                for place in range(self._count):
                    if queue and place not in running:
                        running[place] = queue.popleft()
                        self._worker(place).begin(function, running[place])
                for job, answer in answers:  # after the next jobs have begun
                    if answer.error is not None:
                        raise answer.error
                    died = died or answer.exitcode is not None
                    yield job, answer.result if answer.exitcode is None else WorkerDied()
                answers = []
                if running:
                    wait_for_any(self._workers[place] for place in running)
                for place in list(running):
                    if ended := self._workers[place].answer(on_note):
                        answers.append((running.pop(place), ended))
        finally:
            if running or died:  # idle processes hold memory, too
                self.stop()

    def _worker(self, place: int) -> WorkerProcess:
        """The process at ``place``, a new one if there is none or it has died."""
        worker = self._workers.get(place)
        if worker is None or not worker.process.is_alive():
            gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[place % len(self._gpus)]} if self._gpus else {}
            worker = self._workers[place] = WorkerProcess(gpu, self._threads)
        return worker
