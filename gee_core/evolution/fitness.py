"""The fitness of a candidate and its two regularisers (Eq. 13-16).

Shapes: T steps, B batch, K network outputs, G genes.
"""

import math

import torch
from torch import Tensor

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

FIXED = ("random", "analytic")
"""The variants that score one fixed wiring; the others search."""


def temporal_difference(o_TBK: Tensor) -> Tensor:
    """R_T = mean over batch and t = 1 … T-1 of ||o_t - o_{t-1}||² / K, Eq. 13. Zero where T = 1."""
    if len(o_TBK) < 2:
        return o_TBK.new_zeros(())
    return o_TBK.diff(dim=0).square().mean()


def spatial_entropy(O_GG: Tensor, distribution: str = "absolute") -> Tensor:
    """R_S = -Σ p log p / log(g²) of the entries of O, in [0, 1], Eq. 14-15.

    Args:
        O_GG: the gene interaction matrix.
        distribution: ``absolute``: p_ij = |O_ij| / Σ|O|; ``softmax`` over all entries.

    Paper: "normalise the elements of O so that their sum is 1", and no division. Here: |O|, because O has both signs, and
    divided by log(g²), so that b does not depend on the number of genes.
    """
    O = O_GG.double().flatten()
    if len(O) == 1:
        return O.new_ones(())
    p = O.softmax(0) if distribution == "softmax" else O.abs() / O.abs().sum()
    return -torch.special.xlogy(p, p).sum() / math.log(len(O))


def regulariser_decay(generation: int, tau_lambda: float) -> float:
    """λ(t) = exp(-t / τ_λ), t from 0.

    Paper: "decreases with the generations" (formula lost). Here: exponentially.
    """
    return math.exp(-generation / tau_lambda)


def fitness(L_ce: float, R_T: float, R_S: float, decay: float, a: float, b: float, variant: str) -> float:
    """F = L_ce - λ·(a·R_T + b·R_S), minimised, Eq. 16; a variant without a regulariser has its weight at 0."""
    use_R_T, use_R_S = SWITCHES[variant]
    return L_ce - decay * (a * R_T * use_R_T + b * R_S * use_R_S)
