"""How many candidates share a GPU. No score depends on it, so it can be tried out on the candidates themselves."""

import logging
from collections.abc import Sequence
from statistics import median

from gee_core.config import BaseConfig
from gee_core.evolution.candidate import Score
from pipelines.runtime.worker_process import Tell

log = logging.getLogger(__name__)

WORTH = 1.1
"""Least gain in images per second for which more candidates at the same time are kept."""

FULL = 0.45
"""Part of a GPU's memory beyond which twice as many candidates do not fit."""


class GpuSharing:
    """Doubles the number of candidates at the same time after a generation, as long as it pays and memory allows it.

    Args:
        count: candidates at the same time at first, one per GPU.
        most: of them, such as the number of CPU cores.
    """

    def __init__(self, count: int, most: int):
        self.count = count
        """Candidates at the same time."""
        self.settled = False
        """Whether ``count`` stays as it is."""
        self._most = most
        self._best = count, 0.0  # and images per second

    def learn(self, scored: Sequence[tuple[Score, float]], memory_used: float, crowded: bool) -> None:
        """Choose ``count`` by a generation's scores and seconds.

        Args:
            memory_used: part of a GPU's memory that is in use with ``count`` processes.
            crowded: whether there was no memory for one of the candidates.
        """
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

    device = Compute.of(base.device).device
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return 1 - free / total
