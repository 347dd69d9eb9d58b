"""The two regularisers of the fitness (Eq. 13-15).

Shapes: T steps, B batch, K network outputs, G genes.
"""

import math

import torch
from torch import Tensor


def temporal_difference(o_TBK: Tensor) -> Tensor:
    """R_T = mean over batch and t = 1 … T-1 of ||o_t - o_{t-1}||² / K, Eq. 13. Zero where T = 1."""
    if len(o_TBK) < 2:
        return o_TBK.new_zeros(())
    return o_TBK.diff(dim=0).square().mean()


def spatial_entropy(O_GG: Tensor) -> Tensor:
    """R_S = -Σ p log p, p_ij = |O_ij| / Σ|O|, divided by its greatest value so that it lies in [0, 1], Eq. 14-15.

    Paper: "normalise the elements of O so that their sum is 1", and no division. Here: |O|, because O has both signs, and
    divided by log(g²), so that b does not depend on the number of genes.
    """
    values = O_GG.double().flatten().abs()
    if len(values) == 1:
        return values.new_ones(())
    p = values / values.sum()
    return -torch.special.xlogy(p, p).sum() / math.log(len(p))
