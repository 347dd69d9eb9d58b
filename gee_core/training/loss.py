"""The losses of training, from the network's output at every step.

Shapes: T steps, B batch, K classes.
"""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """L_CE of the logits, which are the mean of o over the steps."""
    return F.cross_entropy(o_TBK.float().mean(0), labels_B, label_smoothing=label_smoothing)


def tet(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0, lam: float = 0.0, phi: float = 0.0) -> Tensor:
    """(1 - λ)·1/T·Σ_t L_CE(o_t, y) + λ·1/T·Σ_t MSE(o_t, φ): every step has to be right on its own.

    Source: Deng et al., Temporal Efficient Training of Spiking Neural Network, ICLR 2022; φ is V_th there, and
    MSE the mean over batch and classes.
    """
    o_TBK = o_TBK.float()
    every_step = F.cross_entropy(o_TBK.flatten(0, 1), labels_B.repeat(len(o_TBK)), label_smoothing=label_smoothing)
    if lam == 0:
        return every_step
    return (1 - lam) * every_step + lam * (o_TBK - phi).square().mean()
