"""Batch norm over the images of all processes that train one network together.

`nn.SyncBatchNorm` does this on GPUs only. Shapes: B batch (steps folded in), C channels, H W space.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gee_core.errors import InputError
from gee_core.snn.norm_kernels import statistics


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics in training are those of all processes of the default group, if there is one."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape and type. In training, every process calls it."""
        alone = not (dist.is_available() and dist.is_initialized())
        if not self.training or (alone and x_BCHW[:, 0].numel() == 1):  # which it refuses
            return super().forward(x_BCHW)
        x = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
        near = x.new_zeros(x.shape[1]) if self.running_mean is None else self.running_mean.clone()
        d = x - near[:, None, None]
        n = torch.full((1,), d[:, 0].numel(), dtype=torch.float64, device=d.device)
        sums = SumOfAll.apply(torch.cat([*(value.sum((2, 3)).sum(0, dtype=torch.float64) for value in (d, d * d)), n]))
        mean, var = statistics(sums, near)
        update_running(self, mean, var, sums[-1])
        y = (x - mean[:, None, None]) * (var + self.eps).rsqrt()[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x_BCHW.dtype)


def sync_batch_norms(net: nn.Module) -> None:
    """Turn every ``nn.BatchNorm2d`` of ``net`` into a ``SyncedBatchNorm2d``, in place. InputError for one of another class."""
    for name, module in net.named_modules():
        known = type(module) is nn.BatchNorm2d or isinstance(module, SyncedBatchNorm2d | nn.SyncBatchNorm)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not known:
            problem = f"sync_batch_norm: the batch norm {name} is a {type(module).__qualname__}, which cannot be synchronised"
            raise InputError(problem, "set it to false, or build the network with torch.nn.BatchNorm2d")
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, mean_C: Tensor, var_C: Tensor, n: Tensor) -> None:
    """Let running statistics follow a batch of ``n`` values per channel, whose biased variance is ``var_C``."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = (1.0 / norm.num_batches_tracked).to(mean_C.dtype) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean_C, weight)
    norm.running_var.lerp_(var_C * (n / (n - 1).clamp_min(1)).to(var_C.dtype), weight)


class SumOfAll(torch.autograd.Function):
    """A tensor added up over all processes. Its gradient is added up as well, since every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return SumOfAll.forward(ctx, grad)
