"""Optimiser and learning rate."""

import math

import torch
from torch import nn


def cosine_with_warmup(step: int, n_steps: int, n_warmup: int, lr: float, lr_min: float = 0.0) -> float:
    """The learning rate of step 0 … n_steps-1: linear up to ``lr`` over ``n_warmup`` steps, then a cosine to ``lr_min``.

    Source: Loshchilov, Hutter, SGDR, 2017, Eq. 5, without restarts.
    """
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - 1 - n_warmup)
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * progress))


def adamw(net: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW in which only matrices and kernels (X, O, weights) decay, not biases and batch norm."""
    return torch.optim.AdamW(_groups(net, weight_decay), fused=True)


def sgd(net: nn.Module, weight_decay: float, momentum: float) -> torch.optim.SGD:
    """SGD, with Nesterov's momentum unless it is 0; the same parameters decay. The learning rate is set at every step."""
    return torch.optim.SGD(_groups(net, weight_decay), lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)


def _groups(net: nn.Module, weight_decay: float) -> list[dict]:
    parameters = list(net.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
