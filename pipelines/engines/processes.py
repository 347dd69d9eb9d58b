"""The engine `processes`: processes of this machine that run one job after the other, each connected to this one by a pipe."""

import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from gee_core.memory import keep_freed_memory
from pipelines.engines.engine import Engine, Function, Job, Outcomes, Result, Tell, WorkerDied
from pipelines.runtime.process_tree import die_with_parent

CONTEXT = get_context("forkserver") if sys.platform == "linux" else get_context("spawn")
"""How processes start: forked from one that has loaded what all need, or each by itself."""

GRACE = 20.0
"""Seconds that processes have to end until they are killed. One that trains may tell MLflow that it was stopped."""


class Processes(Engine):
    """``count`` processes with ``threads`` torch threads each; None leaves torch's default.

    Each sees one of ``gpus``, in turn (names for CUDA_VISIBLE_DEVICES). Without ``gpus`` each sees the GPUs of this process.
    They end with this process, and on SIGTERM.
    """

    def __init__(self, count: int, threads: int | None = 1, gpus: Sequence[str] = ()):
        self._count, self._threads, self._gpus = count, threads, gpus
        self._workers: dict[int, tuple[Any, Connection]] = {}
        """Each process, and this end of its pipe."""
        self._running: dict[int, Any] = {}
        """The jobs, by the place of their process."""

    def room(self) -> int:
        return self._count

    def stop(self) -> None:
        for place, (process, pipe) in self._workers.items():
            if place in self._running:
                process.terminate()
            with suppress(OSError):
                pipe.send(None)  # one that has nothing to do ends by itself
        deadline = time.monotonic() + GRACE
        for process, pipe in self._workers.values():
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
            pipe.close()
        self._workers, self._running = {}, {}

    def each(self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell) -> Outcomes[Job, Result]:
        queue, running, died = deque(jobs), self._running, False
        ended: list[tuple[Job, str, Any]] = []
        try:
            while queue or running or ended:
                for place in range(self._count):
                    if queue and place not in running:
                        running[place] = queue.popleft()
                        self._begin(place, function, running[place])
                # After the next jobs have begun. A death comes first, since it can cause errors in other processes.
                for job, kind, value in sorted(ended, key=lambda end: end[1] != "died"):
                    if kind == "error":
                        raise value
                    died = died or kind == "died"
                    yield job, WorkerDied(value) if kind == "died" else value
                ended = []
                if running:
                    workers = [self._workers[place] for place in running]
                    wait([handle for process, pipe in workers for handle in (pipe, process.sentinel)])
                for place in list(running):
                    if message := self._message(place, on_note):
                        ended.append((running.pop(place), *message))
        finally:
            if running or died:  # idle processes hold memory, too
                self.stop()

    def _begin(self, place: int, function: Function[Job, Result], job: Job) -> None:
        """Give ``job`` to the process at ``place``, a new one if there is none or it has died."""
        if place not in self._workers or not self._workers[place][0].is_alive():
            env = {"CUDA_VISIBLE_DEVICES": self._gpus[place % len(self._gpus)]} if self._gpus else {}
            CONTEXT.set_forkserver_preload(["gee_core.evolution.proxy"])  # it imports torch and starts no thread
            pipe, other_end = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_serve, args=(other_end, os.environ | env, self._threads))
            process.start()
            other_end.close()
            self._workers[place] = process, pipe
        with suppress(OSError):  # it died: `_message` says so
            self._workers[place][1].send((function, job))

    def _message(self, place: int, on_note: Tell) -> tuple[str, Any] | None:
        """How a job ended, as result, error or died; None while it runs. ``on_note`` is called with the notes before."""
        process, pipe = self._workers[place]
        died = not process.is_alive()  # asked before the pipe is read, which may hold an answer all the same
        try:
            while pipe.poll():
                kind, value = pipe.recv()
                if kind != "note":
                    return kind, value
                on_note(value)
        except (EOFError, OSError):
            died = True
        if not died:
            return None
        process.join()
        return "died", process.exitcode


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
            try:
                message = "result", function(job, lambda note: pipe.send(("note", note)))
            except Exception as error:
                error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
                message = "error", error
            pipe.send(message)
