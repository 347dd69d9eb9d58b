"""Muon for X, O and the kernels of a network, AdamW for everything else.

Shapes: A is (…, n, m), a stack of matrices.
"""

from typing import Any

import torch
from torch import Tensor

RMS = 0.2
"""Root mean square of an update at a learning rate of 1, about AdamW's; source: Liu et al., Muon is scalable, 2025."""

MOMENTUM = 0.95
"""The usual one."""


class Muon(torch.optim.Optimizer):
    """Muon for ``groups``, and the given AdamW for the other parameters, as one optimiser.

    As ``torch.optim.Muon``, which takes neither stacks of matrices nor kernels: a parameter with three dimensions is such a
    stack, with four a kernel, a matrix (outputs, inputs times positions).
    """

    def __init__(self, groups: list[dict[str, Any]], adamw: torch.optim.AdamW, momentum: float = MOMENTUM):
        super().__init__([*groups, *adamw.param_groups], {"lr": 0.0})
        self._n_groups, self._adamw, self._momentum = len(groups), adamw, momentum

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        self._adamw.state = self.state
        self._adamw.param_groups = self.param_groups[self._n_groups :]
        self._adamw.step()
        for group in self.param_groups[: self._n_groups]:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group["lr"], group["weight_decay"])

    def _update(self, p: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        average = state["average"]
        average.lerp_(gradient, 1 - self._momentum)
        ahead = gradient.lerp(average, self._momentum)
        update = orthogonalised(ahead.flatten(1) if p.ndim == 4 else ahead)
        rms = RMS * max(update.shape[-2:]) ** 0.5  # times that of a matrix with orthonormal rows or columns
        p.mul_(1 - lr * weight_decay).sub_(update.reshape(p.shape), alpha=lr * rms)


def orthogonalised(A: Tensor) -> Tensor:
    """About U·Vᵀ of every A = U·S·Vᵀ, singular values in 0.7 … 1.2, by five Newton-Schulz steps (Jordan et al., Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = A.mT if A.shape[-2] > A.shape[-1] else A
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if A.shape[-2] > A.shape[-1] else wide
