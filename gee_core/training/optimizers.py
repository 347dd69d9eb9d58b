"""The optimisers of training, by the names of `train.optimizer`. The learning rate is set at every step, by ``set_lr``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from gee_core.genome.encoding import genomes
from gee_core.model.base import SpikingNetwork
from gee_core.training.muon import Muon


def make_optimizer(
    name: str, net: nn.Module, weight_decay: float, momentum: float = 0.0, lr_X: float = 1.0, lr_O: float = 1.0
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of all parameters of ``net``, in which matrices and kernels (X, O, weights) decay alone.

    ``muon`` is for X, O and the kernels but the stem's, with AdamW for the rest. ``lr_X`` and ``lr_O`` are factors on the rate.
    """
    X = [X_l for genome in genomes(net) for X_l in genome.encodings()]
    O = [genome.O for genome in genomes(net)]
    kernels = _hidden_kernels(net) if name == "muon" else []
    apart = {id(p) for p in [*X, *O, *kernels]}
    others = [p for p in net.parameters() if id(p) not in apart]
    hidden = _groups((kernels, weight_decay, 1.0), (X, weight_decay, lr_X), (O, weight_decay, lr_O))
    rest = _groups(([p for p in others if p.ndim > 1], weight_decay, 1.0), ([p for p in others if p.ndim <= 1], 0.0, 1.0))
    if name == "muon":
        return Muon(hidden, torch.optim.AdamW(rest, fused=True), momentum)
    if name == "sgd":
        return torch.optim.SGD([*hidden, *rest], lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW([*hidden, *rest], fused=True)


def _groups(*parts: tuple[Sequence[torch.Tensor], float, float]) -> list[dict[str, Any]]:
    return [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in parts if p]


def _hidden_kernels(net: nn.Module) -> list[torch.Tensor]:
    """The plain kernels of ``net`` but the stem's."""
    convs = net.conv_chain() if isinstance(net, SpikingNetwork) else []
    convs += [module for module in net.modules() if isinstance(module, nn.Conv2d) and module not in convs]
    return [conv.weight for conv in convs[1:] if not parametrize.is_parametrized(conv, "weight")]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters the learning rate ``lr``, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
