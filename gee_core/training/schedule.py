"""Optimiser and learning rate."""

import functools
import inspect
import math
from dataclasses import dataclass

import torch
from torch import nn

from gee_core.genome.encoding import genome_of


def cosine_with_warmup(step: int, n_steps: int, n_warmup: int, lr: float, lr_min: float = 0.0) -> float:
    """The learning rate of step 0 … n_steps-1: linear up to ``lr`` over ``n_warmup`` steps, then a cosine to ``lr_min``.

    Source: Loshchilov, Hutter, SGDR, 2017, Eq. 5, without restarts.
    """
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - 1 - n_warmup)
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Plasticity:
    """Factors on the learning rates of the genes, and so on their weight decay, which acts in proportion to these rates."""

    X: float = 1.0
    """Of X_0 … X_L."""
    O: float = 1.0
    """Of O."""


def adamw(net: nn.Module, weight_decay: float, plasticity: Plasticity = Plasticity()) -> torch.optim.AdamW:
    """AdamW in which only matrices and kernels (X, O, weights) decay, not biases and batch norm."""
    return _without_compiler(torch.optim.AdamW)(_groups(net, weight_decay, plasticity), fused=True)


def sgd(net: nn.Module, weight_decay: float, momentum: float, plasticity: Plasticity = Plasticity()) -> torch.optim.SGD:
    """SGD, with Nesterov's momentum unless it is 0; the same parameters decay. The learning rate is set at every step."""
    groups = _groups(net, weight_decay, plasticity)
    return _without_compiler(torch.optim.SGD)(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)


@functools.cache
def _without_compiler(kind: type[torch.optim.Optimizer]) -> type:
    """``kind`` without the decorators that tell the compiler to ignore it: they load the compiler, which takes a second."""
    names = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    own = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), own | {"step": torch.no_grad()(own["step"])})


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters the learning rate ``lr``, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def _groups(net: nn.Module, weight_decay: float, plasticity: Plasticity) -> list[dict]:
    genome = genome_of(net)
    X, O = ([], []) if genome is None else (genome.encodings(), [genome.O])
    genes = {id(p) for p in [*X, *O]}
    others = [p for p in net.parameters() if id(p) not in genes]
    groups = [
        ([p for p in others if p.ndim > 1], weight_decay, 1.0),
        (X, weight_decay, plasticity.X),
        (O, weight_decay, plasticity.O),
        ([p for p in others if p.ndim <= 1], 0.0, 1.0),
    ]
    return [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in groups if p]
