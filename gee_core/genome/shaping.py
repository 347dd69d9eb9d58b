"""The genes of shape that act on a network and not on the draws of X and O: γ_0, γ_end and the slope of the branches."""

import math
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from gee_core.config import Shape


@torch.no_grad()
def shape_network(net: nn.Module, shape: Shape) -> None:
    """Apply γ_0 and γ_end to the batch norms and the slope to the last convolutions of branches, in place, once.

    A network names its branches by a method ``branch_ends``: the last batch norm and the last convolution of each, in order of
    execution.

    Raises:
        ValueError: γ_end or the slope is not neutral, and ``net`` does not say where its residual branches end.
    """
    named = getattr(net, "branch_ends", None)
    ends: list[tuple[nn.BatchNorm2d, nn.Conv2d]] = named() if callable(named) else []
    if not ends and (shape.gamma_end, shape.slope) != (1.0, 0.0):
        raise ValueError("gamma_end and slope act on residual branches, which the network does not name: leave them out")
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            module.weight.mul_(shape.gamma_0)
    for norm, _ in ends:
        norm.weight.mul_(shape.gamma_end)
    for branch, (_, conv) in enumerate(ends):
        depth = branch / (len(ends) - 1) - 0.5 if len(ends) > 1 else 0.0
        encoded = parametrize.is_parametrized(conv, "weight")  # its X_l then stands for the size of its weight
        weight = cast(Any, conv).parametrizations.weight.original if encoded else conv.weight
        weight.mul_(math.exp(shape.slope * depth))
