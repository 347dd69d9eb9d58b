"""The optimisers of training, by the names of `train.optimizer`. The learning rate is set at every step, by ``set_lr``.

Shapes: A is (…, n, m), a stack of matrices.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gee_core.errors import InputError
from gee_core.genome.encoding import genomes
from gee_core.model.base import SpikingNetwork
from gee_core.update_file import parts_of

RMS = 0.2
"""Root mean square of an update at a learning rate of 1, about AdamW's; source: Liu et al., Muon is scalable, 2025."""


def make_optimizer(
    name: str, net: nn.Module, weight_decay: float, momentum: float = 0.0, lr_X: float = 1.0, lr_O: float = 1.0
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of all parameters of ``net``, in which matrices and kernels (X, O, weights) decay alone.

    ``muon`` is for X, O and the kernels but the stem's, with AdamW for the rest. ``lr_X`` and ``lr_O`` are factors on the rate.
    """
    X = [X_l for genome in genomes(net) for X_l in genome.encodings()]
    O = [genome.O for genome in genomes(net)]
    kernels: list[Tensor] = []
    if name == "muon":  # the plain ones but the stem's
        convs = net.conv_chain() if isinstance(net, SpikingNetwork) else []
        convs += [module for module in net.modules() if isinstance(module, nn.Conv2d) and module not in convs]
        kernels = [conv.weight for conv in convs[1:] if not parametrize.is_parametrized(conv, "weight")]
    apart = {id(p) for p in [*X, *O, *kernels]}
    others = [p for p in net.parameters() if id(p) not in apart]
    hidden = _groups((kernels, weight_decay, 1.0), (X, weight_decay, lr_X), (O, weight_decay, lr_O))
    rest = _groups(([p for p in others if p.ndim > 1], weight_decay, 1.0), ([p for p in others if p.ndim <= 1], 0.0, 1.0))
    if name == "muon":
        return Muon(hidden, torch.optim.AdamW(rest, fused=True), momentum)
    if name == "sgd":
        return torch.optim.SGD([*hidden, *rest], lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW([*hidden, *rest], fused=True)


def train_only(net: nn.Module, parts: Sequence[str]) -> None:
    """Let nothing of ``net`` learn, in place, but ``parts``: ``O``, ``norm`` (weights and biases of batch norms), ``head``.

    Raises:
        InputError: the network has no parameters of such a part.
    """
    part_of = parts_of(net)
    if lacking := [part for part in parts if part not in part_of.values()]:
        raise InputError(f"= {list(parts)}: the network has no {lacking[0]}", "leave it out", ("parts",))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(part_of.get(name) in parts)


def _groups(*parts: tuple[Sequence[Tensor], float, float]) -> list[dict[str, object]]:
    return [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in parts if p]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters the learning rate ``lr``, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


class Muon(torch.optim.Optimizer):
    """Muon for ``groups``, and the given AdamW for the other parameters, as one optimiser.

    As ``torch.optim.Muon``, which takes neither stacks of matrices nor kernels: a parameter with three dimensions is such a
    stack, with four a kernel, a matrix (outputs, inputs times positions).
    """

    def __init__(self, groups: list[dict[str, object]], adamw: torch.optim.AdamW, momentum: float):
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
        update = orthogonalise(ahead.flatten(1) if p.ndim == 4 else ahead)
        rms = RMS * max(update.shape[-2:]) ** 0.5  # times that of a matrix with orthonormal rows or columns
        p.mul_(1 - lr * weight_decay).sub_(update.reshape(p.shape), alpha=lr * rms)


def orthogonalise(A: Tensor) -> Tensor:
    """About U·Vᵀ of every A = U·S·Vᵀ, singular values in 0.7 … 1.2, by five Newton-Schulz steps (Jordan et al., Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = A.mT if A.shape[-2] > A.shape[-1] else A
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if A.shape[-2] > A.shape[-1] else wide
