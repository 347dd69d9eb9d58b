"""Scores candidates on an engine.

Outside params.yaml, a candidate's score depends only on its number of threads (GEE_THREADS), so every engine gives the same
records with any number of workers.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Self

from gee_core.config import BaseConfig
from gee_core.evolution.candidate import Candidate, Score, failed
from gee_core.evolution.proxy_task import ProxyTask
from pipelines.engines.engine import Engine, Serial, WorkerDied, leave_if_lost_gpu, run_each
from pipelines.engines.select import choose_engine, default_count, may_share_gpus
from pipelines.inputs.own_network import network_digest, register_own_network
from pipelines.runtime.settings import Settings, cpu_cores
from pipelines.runtime.worker_process import Tell

log = logging.getLogger(__name__)

Scored = tuple[Candidate, Score, float]
"""A candidate, its score and its seconds."""

OnPart = Callable[[Candidate, float], None]
"""Is told a running candidate and the part of its training that is done, from 0 to 1."""

TELL_SECONDS = 1.0
"""Time between two notes of a running candidate."""

WORTH = 1.1
"""Least gain in images per second for which more candidates at the same time are kept."""

FULL = 0.45
"""Part of a GPU's memory beyond which twice as many candidates do not fit."""


class GpuSharing:
    """Doubles ``count``, the candidates at the same time, after a generation, as long as it pays and memory allows it.

    ``count`` stays as it is once this is ``settled``; it is at most ``most``, such as the number of CPU cores.
    """

    def __init__(self, count: int, most: int):
        self.count, self.settled = count, False
        self._most = most
        self._best = count, 0.0  # and images per second

    def learn(self, scored: Sequence[tuple[Score, float]], memory_used: float, crowded: bool) -> None:
        """Choose ``count`` by a generation's scores and seconds, the part of a GPU's memory in use, and whether it was full."""
        speeds = [score.image_passes / seconds for score, seconds in scored if score.status == "ok" and seconds]
        rate = self.count * median(speeds or [0.0])
        if crowded or not rate or rate < WORTH * self._best[1]:
            self.count, self.settled = self._best[0], True
        else:
            self._best = self.count, rate
            more = min(2 * self.count, self._most, len(scored))
            self.settled = more <= self.count or memory_used > FULL
            self.count = self.count if self.settled else more
        if self.settled:
            log.info("%d candidates at the same time from here on (set GEE_WORKERS to choose the number)", self.count)


def memory_used(base: BaseConfig, tell: Tell) -> float:
    """The part of a GPU's memory that is in use, by whatever process; asked in a worker, which has opened the GPU."""
    import torch

    from gee_core.hardware import Compute

    device = Compute.of(base.device, "fp32").device
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return 1 - free / total


class Workers:
    """Scores candidates on an engine, by default that of the environment, and stops it on exit.

    On GPUs of this machine it chooses how many share one, where GEE_WORKERS does not say it.
    """

    def __init__(self, task: ProxyTask, engine: Engine | None = None, on_part: OnPart = lambda candidate, part: None):
        """``on_part`` is told every second how much of a running candidate is done."""
        checkpoints = task.checkpoints and task.checkpoints.absolute()
        self._task = replace(task, prepared=task.prepared.absolute(), checkpoints=checkpoints)
        self._sharing: GpuSharing | None = None
        if engine is None:
            wanted = Settings.read().workers
            count = wanted or default_count([task.base])
            engine = self._chosen_engine(count)
            if count is not None and wanted is None and may_share_gpus(task.base):
                self._sharing = GpuSharing(count, cpu_cores())
        self._engine, self._on_part = engine, on_part
        self._digest = network_digest(task.network.name)

    def _chosen_engine(self, count: int | None) -> Engine:
        return choose_engine(count, Settings.read().threads, [self._task.prepared], [self._task.base])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._engine.stop()

    def score_all(self, candidates: list[Candidate]) -> Iterator[Scored]:
        """Yield (candidate, score, seconds) in order of completion.

        Those that a GPU has no memory for beside others are scored again at the end, each alone.
        """
        crowded, timed = [], []
        for candidate, score, seconds in self._scored(candidates):
            if score.out_of_memory and self._engine.room() > 1:
                crowded.append(candidate)
            else:
                timed.append((score, seconds))
                yield candidate, score, seconds
        if self._sharing and not self._sharing.settled and all((c.epochs or 1) == 1 for c in candidates):
            self._share(self._sharing, timed, bool(crowded))
        for candidate in crowded:
            self._engine.stop()  # idle processes hold memory, too
            yield from self._scored([candidate])

    def _scored(self, candidates: list[Candidate]) -> Iterator[Scored]:
        by_place = {candidate.place: candidate for candidate in candidates}

        def on_note(note: tuple[tuple[int, int], float]) -> None:
            place, part = note
            if (candidate := by_place.get(tuple(place))) is not None:  # a note may be older than these candidates
                self._on_part(candidate, part)

        score_job = functools.partial(_score_job, self._task, self._digest)
        for candidate, result in run_each(self._engine, score_job, candidates, on_note):
            if isinstance(result, WorkerDied):
                result = failed("its worker process died every time (out of memory?)"), 0.0
            yield candidate, *result

    def _share(self, sharing: GpuSharing, timed: list[tuple[Score, float]], crowded: bool) -> None:
        """Go on with as many processes as ``sharing`` chooses by what was just measured."""
        before = sharing.count
        ((_, used),) = run_each(self._engine, memory_used, [self._task.base])
        sharing.learn(timed, 1.0 if isinstance(used, WorkerDied) else used, crowded)
        if sharing.count != before:
            self._engine.stop()
            self._engine = self._chosen_engine(sharing.count)


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
