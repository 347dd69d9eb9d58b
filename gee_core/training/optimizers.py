"""The optimisers of training, by the names of `train.optimizer`. The learning rate is set at every step, by ``set_lr``."""

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from gee_core.genome.encoding import genomes
from gee_core.model.base import SpikingNetwork
from gee_core.training.muon import Muon


@dataclass(frozen=True)
class Plasticity:
    """Factors on the learning rates of the genes. Their weight decay acts in proportion to X and O."""

    X: float = 1.0
    """Of X_0 … X_L."""
    O: float = 1.0
    """Of O."""


def make_optimizer(
    name: str, net: nn.Module, weight_decay: float, momentum: float, plasticity: Plasticity = Plasticity()
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of all parameters of ``net``: `adamw`, `sgd` or `muon`."""
    if name == "adamw":
        return adamw(net, weight_decay, plasticity)
    return {"sgd": sgd, "muon": muon}[name](net, weight_decay, momentum, plasticity)


def adamw(net: nn.Module, weight_decay: float, plasticity: Plasticity = Plasticity()) -> torch.optim.AdamW:
    """AdamW in which only matrices and kernels (X, O, weights) decay, not biases and batch norm."""
    return _without_compiler(torch.optim.AdamW)(_groups(net, weight_decay, plasticity), fused=True)


def sgd(net: nn.Module, weight_decay: float, momentum: float, plasticity: Plasticity = Plasticity()) -> torch.optim.SGD:
    """SGD, with Nesterov's momentum unless it is 0; the same parameters decay."""
    groups = _groups(net, weight_decay, plasticity)
    return _without_compiler(torch.optim.SGD)(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)


def muon(net: nn.Module, weight_decay: float, momentum: float, plasticity: Plasticity = Plasticity()) -> Muon:
    """Muon for X, O and the kernels of all convolutions but the stem; AdamW for the rest; the same parameters decay."""
    convs = net.conv_chain() if isinstance(net, SpikingNetwork) else []
    convs += [module for module in net.modules() if isinstance(module, nn.Conv2d) and module not in convs]
    kernels = [conv.weight for conv in convs[1:] if not parametrize.is_parametrized(conv, "weight")]
    X, O = _genes(net)
    hidden = {id(p) for p in [*X, *O, *kernels]}
    groups: dict[bool, list[dict]] = {True: [], False: []}
    for group in _groups(net, weight_decay, plasticity):
        for is_hidden, its_groups in groups.items():
            if part := [p for p in group["params"] if (id(p) in hidden) == is_hidden]:
                its_groups.append(group | {"params": part})
    return _without_compiler(Muon)(groups[True], _without_compiler(torch.optim.AdamW)(groups[False], fused=True), momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters the learning rate ``lr``, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


@functools.cache
def _without_compiler(kind: type[torch.optim.Optimizer]) -> type:
    """``kind`` without the decorators that tell the compiler to ignore it: they load the compiler, which takes a second."""
    names = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    own = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), own | {"step": torch.no_grad()(own["step"])})


def _genes(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """[X_0 … X_L] and [O] of every genome in ``net``; empty in a plain network."""
    found = genomes(net)
    return [X for genome in found for X in genome.encodings()], [genome.O for genome in found]


def _groups(net: nn.Module, weight_decay: float, plasticity: Plasticity) -> list[dict[str, Any]]:
    X, O = _genes(net)
    genes = {id(p) for p in [*X, *O]}
    others = [p for p in net.parameters() if id(p) not in genes]
    groups = [
        ([p for p in others if p.ndim > 1], weight_decay, 1.0),
        (X, weight_decay, plasticity.X),
        (O, weight_decay, plasticity.O),
        ([p for p in others if p.ndim <= 1], 0.0, 1.0),
    ]
    return [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in groups if p]
