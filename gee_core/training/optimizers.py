"""The optimisers of training, by the names of `train.optimizer`. The learning rate is set at every step, by ``set_lr``."""

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
    X, O = _genes(net)
    genes = {id(p) for p in [*X, *O]}
    others = [p for p in net.parameters() if id(p) not in genes]
    parts = [
        ([p for p in others if p.ndim > 1], weight_decay, 1.0),
        (X, weight_decay, lr_X),
        (O, weight_decay, lr_O),
        ([p for p in others if p.ndim <= 1], 0.0, 1.0),
    ]
    groups = [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in parts if p]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    hidden, rest = _parts(net, groups)
    return Muon(hidden, torch.optim.AdamW(rest, fused=True), momentum)


def _parts(net: nn.Module, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The parts of ``groups`` that Muon updates, and the others."""
    convs = net.conv_chain() if isinstance(net, SpikingNetwork) else []
    convs += [module for module in net.modules() if isinstance(module, nn.Conv2d) and module not in convs]
    kernels = [conv.weight for conv in convs[1:] if not parametrize.is_parametrized(conv, "weight")]
    hidden = {id(p) for genes in (*_genes(net), kernels) for p in genes}
    muons = [group | {"params": [p for p in group["params"] if id(p) in hidden]} for group in groups]
    others = [group | {"params": [p for p in group["params"] if id(p) not in hidden]} for group in groups]
    return [group for group in muons if group["params"]], [group for group in others if group["params"]]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters the learning rate ``lr``, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def _genes(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """[X_0 … X_L] and [O] of every genome in ``net``. A plain network has none."""
    return [X for genome in genomes(net) for X in genome.encodings()], [genome.O for genome in genomes(net)]
