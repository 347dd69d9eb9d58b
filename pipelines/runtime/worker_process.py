"""Processes that run one job after the other for the process that started them, each connected to it by a pipe."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

from gee_core.memory import keep_freed_memory
from pipelines.runtime.process_tree import die_with_parent

CONTEXT = get_context("forkserver") if sys.platform == "linux" else get_context("spawn")
"""How processes start: forked from one that has loaded what all need, or each by itself."""

GRACE = 5.0
"""Seconds that processes have to end until they are killed."""

Job = TypeVar("Job")
Result = TypeVar("Result")
Tell = Callable[[Any], None]
"""Sends a note from a job to the process that waits for it."""
Function = Callable[[Job, Tell], Result]
"""The work of a job: a function that can be pickled."""


class Answer(NamedTuple):
    """How a job ended."""

    result: Any = None
    error: Exception | None = None
    """What the job raised."""
    exitcode: int | None = None
    """Set where the process died, as in `multiprocessing.Process.exitcode`."""


class WorkerProcess:
    """A process with ``env`` added to the environment of this one. It ends with this process, and on SIGTERM.

    ``threads``: the number of torch's threads in it; None leaves torch's default.
    """

    def __init__(self, env: dict[str, str], threads: int | None = None):
        CONTEXT.set_forkserver_preload(["gee_core.evolution.proxy"])  # it imports torch and starts no thread
        self.pipe, end = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(end, os.environ | env, threads))
        self.process.start()
        end.close()
        self.busy = False

    def begin(self, function: Function[Job, Result], job: Job) -> None:
        self.busy = True
        with suppress(OSError):  # it died: `answer` says so
            self.pipe.send((function, job))

    def answer(self, on_note: Tell) -> Answer | None:
        """How the job ended, None while it runs; ``on_note`` is called with the notes that have arrived before."""
        died = not self.process.is_alive()  # asked before the pipe is read, which may hold an answer all the same
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Answer):
                    self.busy = False
                    return message
                on_note(message)
        except (EOFError, OSError):
            died = True
        if not died:
            return None
        self.process.join()
        self.busy = False
        return Answer(exitcode=self.process.exitcode)


def wait_for_any(workers: Iterable[WorkerProcess]) -> None:
    """Wait until one of ``workers`` sends something or ends."""
    wait([handle for worker in workers for handle in (worker.pipe, worker.process.sentinel)])


def end_workers(workers: list[WorkerProcess], grace: float = GRACE) -> None:
    """End them now: idle ones end by themselves, busy ones are terminated; what is left after ``grace`` seconds is killed."""
    for worker in workers:
        if worker.busy:
            worker.process.terminate()
        with suppress(OSError):
            worker.pipe.send(None)
    deadline = time.monotonic() + grace
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()


def _serve(pipe: Connection, env: dict[str, str], threads: int | None) -> None:
    os.environ.clear()  # that of the process that this one is forked from may be older
    os.environ.update(env)  # torch has not asked the driver for GPUs yet
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the process that waits for the jobs ends this one
    die_with_parent()
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)

    with suppress(EOFError, OSError):  # of the pipe, whose other end is gone
        while (task := pipe.recv()) is not None:
            function, job = task
            pipe.send(_answer(function, job, pipe.send))


def _answer(function: Function[Job, Result], job: Job, tell: Tell) -> Answer:
    try:
        return Answer(function(job, tell))
    except Exception as error:
        error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
        return Answer(error=error)
