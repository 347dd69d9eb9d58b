"""How many candidates share a GPU: rates and memory are given here, no GPU is asked."""

import pytest
import torch

from gee_core.evolution.candidate import Score, failed
from gee_core.hardware import Compute
from pipelines.engines.engine import ignore
from pipelines.engines.gpu_sharing import GpuSharing, memory_used


def scored(n, speed, status="ok"):
    """``n`` candidates of 1,000 images with ``speed`` images per second each."""
    return [(Score(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, status, 1000), 1000 / speed)] * n


def counts(sharing, *generations):
    """The number of candidates at the same time after each generation (candidates, images/s of each, memory, crowded)."""
    found = []
    for n, speed, used, crowded in generations:
        assert not sharing.settled
        sharing.learn(scored(n, speed), used, crowded)
        found.append(sharing.count)
    return found, sharing.settled


@pytest.mark.parametrize(
    ("generations", "found", "settled"),
    [
        ([(16, 100, 0.1, False), (16, 100, 0.2, False), (16, 90, 0.4, False), (16, 80, 0.44, False)], [2, 4, 8, 12], False),
        ([(16, 100, 0.1, False), (16, 56, 0.2, False)], [2, 4], False),
        ([(16, 100, 0.1, False), (16, 54, 0.2, False)], [2, 1], True),  # not a tenth faster: back
        ([(16, 100, 0.1, False), (16, 90, 0.46, False)], [2, 2], True),  # no memory for twice as many
        ([(16, 100, 0.1, False), (16, 90, 0.2, True)], [2, 1], True),  # one found no memory
        ([(3, 100, 0.1, False), (3, 100, 0.1, False), (3, 100, 0.1, False)], [2, 3, 3], True),  # no candidates for more
    ],
)
def test_it_doubles_while_that_pays_and_fits(generations, found, settled):
    assert counts(GpuSharing(1, most=12), *generations) == (found, settled)


def test_it_starts_with_one_per_gpu_and_ends_at_the_number_of_cores():
    assert counts(GpuSharing(4, most=6), (20, 100, 0.1, False), (20, 100, 0.1, False)) == ([6, 6], True)


def test_the_median_candidate_counts_so_that_one_that_compiles_or_resumes_does_not():
    sharing = GpuSharing(1, most=8)
    sharing.learn([*scored(1, 1), *scored(5, 100), *scored(1, 10_000), *scored(2, 1, "failed: x")], 0.0, False)
    sharing.learn(scored(8, 56), 0.0, False)
    assert sharing.count == 4


def test_a_generation_that_failed_teaches_nothing():
    sharing = GpuSharing(2, most=8)
    sharing.learn([(failed("diverged", 1000), 1.0)] * 4, 0.0, False)
    assert (sharing.count, sharing.settled) == (2, True)


def test_the_memory_in_use_is_that_of_the_device_whoever_uses_it(make_params, monkeypatch):
    base = make_params().base
    assert memory_used(base, ignore) == 0.0
    monkeypatch.setattr(Compute, "of", lambda *names: Compute(torch.device("cuda:1"), torch.float32))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda:1": (60, 80)}[str(device)])
    assert memory_used(base, ignore) == 0.25
