"""Networks whose neurons fire before they are trained, and what tests draw from."""

import torch
from torch import Tensor, nn


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Whether every tensor of ``one`` is that of ``other``, bit for bit."""
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


def awake(net: nn.Module, x: Tensor) -> nn.Module:
    """``net`` in evaluation mode, its batch norms set on ``x`` so that its neurons fire, though not all of them."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.constant_(module.bias, 0.5)
    with torch.no_grad():
        net(x)
    return net.eval()
