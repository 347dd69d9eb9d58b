"""The formulas of Eq. 13-16 against loops, and their laws."""

import math

import pytest
import torch

from gee_core.evolution.candidate import failed
from gee_core.evolution.fitness import fitness, regulariser_decay, spatial_entropy, temporal_difference
from tests.gee_core.evolution.made_up import config, measured


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 1, 1)])
def test_the_temporal_difference_equals_eq_13_written_as_loops(shape):
    o_TBK, (T, B, K) = normal(*shape), shape
    total = 0.0
    for b in range(B):
        for t in range(1, T):
            total += sum((o_TBK[t, b, k].item() - o_TBK[t - 1, b, k].item()) ** 2 for k in range(K)) / K
    assert temporal_difference(o_TBK).item() == pytest.approx(total / (B * (T - 1)))
    assert temporal_difference(o_TBK[:1]).item() == 0  # a single step


def test_the_entropy_equals_eq_14_and_15_written_as_loops():
    O, g = normal(5, 5), 5
    weights = [abs(O[i, j].item()) for i in range(g) for j in range(g)]
    p = [w / sum(weights) for w in weights]
    assert spatial_entropy(O).item() == pytest.approx(-sum(x * math.log(x) for x in p) / math.log(g**2))
    assert spatial_entropy(0.3 * O.sign()).item() == pytest.approx(1.0)
    assert spatial_entropy(torch.tensor([[0.0, -3.0], [0.0, 0.0]])).item() == 0
    assert spatial_entropy(torch.tensor([[2.0]])).item() == 1


def test_the_weight_of_the_regularisers_starts_at_one_and_decays_exponentially():
    assert [regulariser_decay(t, 2.0) for t in range(3)] == pytest.approx([1, math.exp(-0.5), math.exp(-1)])


# L_ce = 2, R_T = 3, R_S = 0.5, λ = 0.4, a = 0.1, b = 0.2: λ·a·R_T = 0.12, λ·b·R_S = 0.04
VARIANTS = {"analytic": 2, "random_search": 1.84, "baseline": 2, "baseline+R_T": 1.88, "baseline+R_S": 1.96, "ste": 1.84}


@pytest.mark.parametrize(("variant", "F"), VARIANTS.items())
def test_each_variant_has_its_own_fitness_and_what_failed_or_is_dead_none(variant, F):
    assert fitness(measured(2.0, 3.0, 0.5), 0.4, config(variant=variant)) == pytest.approx(F)
    for without in (failed("x"), measured(2.0, dead=True)):
        assert math.isnan(fitness(without, 0.4, config(variant=variant)))
