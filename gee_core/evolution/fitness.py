"""The fitness of a candidate and its two regularisers (Eq. 13-16).

Shapes: T steps, B batch, K network outputs, G genes.
"""

import math

import torch
from torch import Tensor

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Score

SWITCHES: dict[str, tuple[bool, bool]] = {
    "random": (False, False),
    "analytic": (False, False),
    "random_search": (True, True),
    "baseline": (False, False),
    "baseline+R_T": (True, False),
    "baseline+R_S": (False, True),
    "ste": (True, True),
}
"""Whether a variant rewards R_T and R_S (Table 4)."""


def temporal_difference(o_TBK: Tensor) -> Tensor:
    """R_T = mean over batch and t = 1 … T-1 of ||o_t - o_{t-1}||² / K, Eq. 13. Zero where T = 1."""
    if len(o_TBK) < 2:
        return o_TBK.new_zeros(())
    return o_TBK.diff(dim=0).square().mean()


def spatial_entropy(O_GG: Tensor, distribution: str = "absolute") -> Tensor:
    """R_S = -Σ p log p, divided by its greatest value so that it lies in [0, 1], Eq. 14-15.

    Args:
        O_GG: the gene interaction matrix.
        distribution: ``absolute``: p_ij = |O_ij| / Σ|O|; ``softmax`` over all entries; ``singular``: O's singular values
            divided by their sum.

    Paper: "normalise the elements of O so that their sum is 1", and no division. Here: |O|, because O has both signs, and
    divided by log(g²), or by log(g) for singular values, so that b does not depend on the number of genes.
    """
    O = O_GG.double()
    values = torch.linalg.svdvals(O) if distribution == "singular" else O.flatten()
    if len(values) == 1:
        return values.new_ones(())
    p = values.softmax(0) if distribution == "softmax" else values.abs() / values.abs().sum()
    return -torch.special.xlogy(p, p).sum() / math.log(len(p))


def regulariser_decay(generation: int, tau_lambda: float) -> float:
    """λ(t) = exp(-t / τ_λ), t from 0.

    Paper: "decreases with the generations" (formula lost). Here: exponentially.
    """
    return math.exp(-generation / tau_lambda)


def fitness(score: Score, decay: float, cfg: EvolveConfig) -> float:
    """F = L - λ·(a·R_T + b·R_S), minimised, Eq. 16; NaN if the candidate failed.

    L is L_ce or TSE, by `evolve.fitness`; R_T is that of Eq. 13 or divided by the variance of o, by `evolve.temporal`. A
    variant without a regulariser has its weight at 0.
    """
    use_R_T, use_R_S = SWITCHES[cfg.variant]
    loss, R_T = score.TSE if cfg.fitness == "tse" else score.L_ce, score.R_T
    if cfg.temporal == "relative":
        R_T = R_T / score.var_o if score.var_o > 0 else 0.0
    return loss - decay * (cfg.a * R_T * use_R_T + cfg.b * score.R_S * use_R_S)
