"""The losses against their definitions, written as loops."""

import math

import pytest
import torch

from gee_core.training.loop import cross_entropy, tet

T, B, K = 3, 4, 5


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    o_TBK = (2 * torch.randn(T, B, K, generator=generator)).requires_grad_()
    return o_TBK, torch.tensor([0, 4, 2, 2])


def slow_cross_entropy(logits: list[float], label: int, smoothing: float) -> float:
    log_sum = math.log(sum(math.exp(z) for z in logits))
    target = [smoothing / K + (1 - smoothing) * (k == label) for k in range(K)]
    return -sum(q * (z - log_sum) for q, z in zip(target, logits, strict=True))


@pytest.mark.parametrize(("lam", "phi", "smoothing"), [(0.0, 0.5, 0.1), (0.05, 0.5, 0.0), (1.0, -1.0, 0.1)])
def test_tet_equals_its_definition_written_as_loops(smoothing, lam, phi, batch):
    o_TBK, labels = batch
    expected = 0.0
    for t in range(T):
        steps_ce = sum(slow_cross_entropy(o_TBK[t, i].tolist(), labels[i].item(), smoothing) for i in range(B)) / B
        steps_mse = sum((z - phi) ** 2 for row in o_TBK[t].tolist() for z in row) / (B * K)
        expected += ((1 - lam) * steps_ce + lam * steps_mse) / T
    assert tet(o_TBK, labels, smoothing, lam, phi).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_the_mean_over_the_steps(smoothing, batch):
    o_TBK, labels = batch
    mean = [[sum(o_TBK[t, i, k].item() for t in range(T)) / T for k in range(K)] for i in range(B)]
    expected = sum(slow_cross_entropy(mean[i], labels[i].item(), smoothing) for i in range(B)) / B
    assert cross_entropy(o_TBK, labels, smoothing).item() == pytest.approx(expected, rel=1e-5)
