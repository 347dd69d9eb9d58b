"""Scores candidates on an engine.

Outside params.yaml, a candidate's score depends only on its number of threads (GEE_THREADS), so every engine gives the same
records with any number of workers.
"""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

from gee_core.evolution.candidate import Candidate, Failure, Score, Scored, failed
from gee_core.evolution.proxy_task import ProxyTask
from pipelines.engines.engine import Engine, Serial, Tell, WorkerDied, leave_if_lost_gpu, run_each
from pipelines.engines.select import choose_engine, default_count
from pipelines.inputs.own_network import network_digest, register_own_network
from pipelines.runtime.settings import Settings

OnPart = Callable[[Candidate, float], None]
"""Is told a running candidate and the part of its training that is done, from 0 to 1."""

TELL_SECONDS = 1.0
"""Time between two notes of a running candidate."""


class Workers:
    """Scores candidates on an engine, by default that of the environment, and stops it on exit."""

    def __init__(self, task: ProxyTask, engine: Engine | None = None, on_part: OnPart = lambda candidate, part: None):
        """``on_part`` is told every second how much of a running candidate is done."""
        checkpoints = task.checkpoints and task.checkpoints.absolute()
        self._task = replace(task, prepared=task.prepared.absolute(), checkpoints=checkpoints)
        if engine is None:
            settings = Settings.read()
            count = settings.workers or default_count([task.base])
            engine = choose_engine(count, settings.threads, [self._task.prepared], [task.base])
        self._engine, self._on_part = engine, on_part
        self._digest = network_digest(task.network.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._engine.stop()

    def score_all(self, candidates: list[Candidate]) -> Iterator[Scored]:
        """Yield (candidate, score, seconds) in order of completion.

        A candidate that found a GPU's memory full is scored again at the end, alone.
        """
        crowded = []
        for candidate, score, seconds in self._scored(candidates):
            if score.failure is Failure.GPU_MEMORY and self._engine.room() > 1:
                crowded.append(candidate)
            else:
                yield candidate, score, seconds
        for candidate in crowded:
            self._engine.stop()  # idle processes hold memory, too
            yield from self._scored([candidate])

    def _scored(self, candidates: list[Candidate]) -> Iterator[Scored]:
        by_place: dict[tuple[int, ...], Candidate] = {candidate.place: candidate for candidate in candidates}

        def on_note(note: tuple[tuple[int, int], float]) -> None:
            place, part = note
            if (candidate := by_place.get(tuple(place))) is not None:  # a note may be older than these candidates
                self._on_part(candidate, part)

        score_job = functools.partial(_score_job, self._task, self._digest)
        for candidate, result in run_each(self._engine, score_job, candidates, on_note):
            if isinstance(result, WorkerDied):
                result = failed("its worker process died every time (out of memory?)", Failure.MEMORY), 0.0
            yield candidate, *result


def score_here(task: ProxyTask) -> Workers:
    """Scores candidates one after the other in this process, with its number of threads."""
    return Workers(task, Serial())


def _score_job(task: ProxyTask, digest: str, candidate: Candidate, tell: Tell) -> tuple[Score, float]:
    register_own_network(task.network.name, digest)
    try:
        return _timed_score(task, candidate, tell)
    except RuntimeError as error:
        leave_if_lost_gpu(error, f"candidate {candidate.label}")
        raise


def _timed_score(task: ProxyTask, candidate: Candidate, tell: Tell) -> tuple[Score, float]:
    from gee_core.evolution.proxy import score  # loads torch: here in the process that scores
    from gee_core.hardware import Compute, settle

    settle(Compute.of(task.base.device, "fp32").device)
    start = told = time.perf_counter()

    def tell_part(part: float) -> None:
        nonlocal told
        if time.perf_counter() - told >= TELL_SECONDS:
            told = time.perf_counter()
            tell((candidate.place, part))

    return score(task, candidate, tell_part), time.perf_counter() - start
