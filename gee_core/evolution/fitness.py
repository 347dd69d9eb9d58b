"""The fitness of a candidate and its two regularisers (Eq. 13-16). Tensors are arguments. This file does without torch.

Shapes: T steps, B batch, K network outputs, G genes.
"""

import math
from typing import TYPE_CHECKING

from gee_core.config import SearchConfig
from gee_core.config.evolve import SWITCHES
from gee_core.evolution.candidate import Score

if TYPE_CHECKING:
    from torch import Tensor


def temporal_difference(o_TBK: "Tensor") -> "Tensor":
    """R_T = mean over batch and t = 1 … T-1 of ||o_t - o_{t-1}||² / K, Eq. 13. Zero where T = 1."""
    if len(o_TBK) < 2:
        return o_TBK.new_zeros(())
    return o_TBK.diff(dim=0).square().mean()


def spatial_entropy(O_GG: "Tensor") -> "Tensor":
    """R_S = -Σ p log p, p_ij = |O_ij| / Σ|O|, divided by its greatest value so that it lies in [0, 1], Eq. 14-15.

    Paper: "normalise the elements of O so that their sum is 1", and no division. Here: |O|, because O has both signs, and
    divided by log(g²), so that b does not depend on the number of genes.
    """
    values = O_GG.double().flatten().abs()
    if len(values) == 1:
        return values.new_ones(())
    p = values / values.sum()
    return -p.xlogy(p).sum() / math.log(len(p))


def regulariser_decay(generation: int, tau_lambda: float) -> float:
    """λ(t) = exp(-t / τ_λ), t from 0.

    Paper: "decreases with the generations" (formula lost). Here: exponentially.
    """
    return math.exp(-generation / tau_lambda)


def fitness(score: Score, decay: float, cfg: SearchConfig) -> float:
    """F = L_ce - λ·(a·R_T + b·R_S), minimised, Eq. 16, or NaN if the candidate failed or is dead.

    A variant without a regulariser has its weight at 0.
    """
    use_R_T, use_R_S = SWITCHES[cfg.variant]
    F = score.L_ce - decay * (cfg.a * score.R_T * use_R_T + cfg.b * score.R_S * use_R_S)
    return math.nan if score.dead else F
