"""Batch norm over the images of all processes that train one network together.

`nn.SyncBatchNorm` does this on GPUs only. Shapes: B batch (steps folded in), C channels, H W space.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gee_core.errors import InputError


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics in training are those of all processes of the default group."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape and type. In training, every process calls it."""
        if not self.training:
            return super().forward(x_BCHW)
        x = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
        near = x.new_zeros(x.shape[1]) if self.running_mean is None else self.running_mean.clone()
        d = x - near[:, None, None]
        mean, var, n = statistics_of_all((d.sum((0, 2, 3)), (d * d).sum((0, 2, 3))), d[:, 0].numel(), near)
        follow(self, mean, var, n)
        y = (x - mean[:, None, None]) * (var + self.eps).rsqrt()[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x_BCHW.dtype)


def sync_batch_norms(net: nn.Module) -> None:
    """Turn every ``nn.BatchNorm2d`` of ``net`` into a ``SyncedBatchNorm2d``, in place; parameters and their names stay.

    Raises:
        InputError: a batch norm is of another class; ``net`` is as it was.
    """
    for name, module in net.named_modules():
        known = type(module) is nn.BatchNorm2d or isinstance(module, SyncedBatchNorm2d | nn.SyncBatchNorm)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not known:
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            problem = f"train.sync_batch_norm: the batch norm {name} is a {kind}, which cannot be synchronised"
            raise InputError(problem, "set it to false, or build the network with torch.nn.BatchNorm2d")
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d


def statistics_of_all(sums: tuple[Tensor, Tensor], n: int, near_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean (C,), biased variance (C,), number of values per channel ()) over all processes.

    ``sums`` (2 of (C,)): of this process's ``n`` values per channel, and of their squares, about ``near_C``.
    """
    everywhere = SumOfAll.apply(torch.cat([*sums, near_C.new_full((1,), n)]).double())
    total = everywhere[-1].detach()
    d_mean, d2_mean = (everywhere[:-1] / total).to(near_C.dtype).chunk(2)
    return near_C + d_mean, (d2_mean - d_mean * d_mean).clamp_min(0.0), total


@torch.no_grad()
def follow(norm: nn.BatchNorm2d, mean_C: Tensor, var_C: Tensor, n: Tensor) -> None:
    """Let running statistics follow a batch of ``n`` values per channel, whose biased variance is ``var_C``."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = (1.0 / norm.num_batches_tracked).to(mean_C.dtype) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean_C, weight)
    norm.running_var.lerp_(var_C * (n / (n - 1).clamp_min(1)).to(var_C.dtype), weight)


class SumOfAll(torch.autograd.Function):
    """A tensor added up over all processes; its gradient is added up as well, since every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total
