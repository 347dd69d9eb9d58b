"""Scores candidates on a pool of workers.

Outside params.yaml, a candidate's score depends only on its number of threads (GEE_THREADS), so every pool gives the same
records with any number of workers.
"""

import functools
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from typing import Self

from gee_core.evolution.candidate import Candidate, Failure, ProxyTask, Score, Scored, failed
from pipelines.engines.pools import Pool, Serial, leave_if_lost_gpu, run_each
from pipelines.engines.select import default_count, open_pool
from pipelines.inputs.own_network import network_digest, register_own_network
from pipelines.runtime.settings import Settings


class Workers:
    """Scores candidates on a pool, by default that of the environment, and closes it on exit."""

    def __init__(self, task: ProxyTask, pool: Pool | None = None):
        checkpoints = task.checkpoints and task.checkpoints.absolute()
        self._task = replace(task, prepared=task.prepared.absolute(), checkpoints=checkpoints)
        if pool is None:
            settings = Settings.read()
            count = settings.workers or default_count([task.base])
            pool = open_pool(count, settings.threads, [self._task.prepared], [task.base])
        self._pool = pool
        self._digest = network_digest(task.network.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def score_all(self, candidates: list[Candidate]) -> Iterator[Scored]:
        """Yield (candidate, score, seconds) in order of completion.

        A candidate that found a GPU's memory full is scored again at the end, alone.
        """
        crowded = []
        for candidate, score, seconds in self._score_once(candidates):
            if score.failure is Failure.GPU_MEMORY and self._pool.room() > 1:
                crowded.append(candidate)
            else:
                yield candidate, score, seconds
        for candidate in crowded:
            self._pool.end_idle()
            yield from self._score_once([candidate])

    def _score_once(self, candidates: list[Candidate]) -> Iterator[Scored]:
        score_job = functools.partial(_score_job, self._task, self._digest)
        for candidate, result in run_each(self._pool, score_job, candidates):
            if isinstance(result, BrokenExecutor):
                result = failed("its worker process died every time (out of memory?)", Failure.MEMORY), 0.0
            yield candidate, *result


def score_here(task: ProxyTask) -> Workers:
    """Scores candidates one after the other in this process, with its number of threads."""
    return Workers(task, Serial())


def _score_job(task: ProxyTask, digest: str, candidate: Candidate) -> tuple[Score, float]:
    from gee_core.compute import Compute, set_up_gpu
    from gee_core.evolution import proxy  # loads torch: here in the process that scores

    register_own_network(task.network.name, digest)
    set_up_gpu(Compute.of(task.base.device, "fp32").device)
    start = time.perf_counter()
    try:
        return proxy.score(task, candidate), time.perf_counter() - start
    except RuntimeError as error:
        leave_if_lost_gpu(error, f"candidate {candidate.label}")
        raise
