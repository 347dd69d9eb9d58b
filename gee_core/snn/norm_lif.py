"""Batch norm, an optional residual sum and neurons in one module, which follows every convolution.

Where the loops compile (see ``kernels``) and the tensors are channels-last, the module takes two passes over memory forward
and two backward, and saves only the convolution's output: backward recomputes the membrane. Elsewhere it runs
``nn.BatchNorm2d``, a sum and the neurons, which are the reference as well.

Shapes: T steps, B batch, C channels, H W space. Steps are folded into the batch, step-major: (T*B, C, H, W).
"""

from typing import Any

import torch
from torch import Tensor, nn

from gee_core.snn import kernels, norm_kernels
from gee_core.snn.dynamics import Dynamics
from gee_core.snn.lif import ILIF, LIF, Neurons, is_channels_last


class NormLIF(nn.Module):
    """Batch norm of ``channels`` channels, residual sum, ``neurons``."""

    def __init__(self, channels: int, neurons: Neurons):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.lif = neurons

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Spikes (T*B, C, H, W) of a convolution's output of the same shape."""
        if self._fuses(x, residual):
            return self._fused(x, None, residual, self.lif.T)[1]
        x = self.norm(x)
        return self.lif(x if residual is None else x + residual)

    def summed(self, branch: Tensor, stream: Tensor) -> tuple[Tensor, Tensor]:
        """(``add_stream(branch, stream)``, the spikes that it drives), both (T*B, C, H, W)."""
        if self._fuses(branch, stream=stream):
            return self._fused(branch, stream, None, self.lif.T)
        stream = add_stream(branch, stream)
        return stream, self(stream)

    def repeated(self, x: Tensor) -> Tensor:
        """Spikes (T*B, C, H, W) where a convolution's output (B, C, H, W) is the same at every step."""
        if self._fuses(x):
            return self._fused(x, None, None, 1)[1]
        return self.lif(self.norm(x).repeat(self.lif.T, 1, 1, 1))

    def _fuses(self, x: Tensor, residual: Tensor | None = None, stream: Tensor | None = None) -> bool:
        norm, lif = self.norm, self.lif
        if not (x.is_cpu or x.is_cuda) or x.dtype is torch.float64:
            return False  # Apple's GPUs have no float64
        if type(lif) not in (LIF, ILIF) or not (lif.is_standard and kernels.compiles(x) and is_channels_last(x)):
            return False
        if residual is not None and not (is_channels_last(residual) and residual.shape == x.shape):
            return False
        if stream is not None and not (is_channels_last(stream) and stream.shape[1:] == x.shape[1:]):
            return False
        if norm._forward_hooks or lif._forward_hooks or norm._forward_pre_hooks or lif._forward_pre_hooks:
            return False  # a hook wants to see the tensors between the two
        # Other norms (a user's own, or a frozen one under autograd) run as they are.
        plain = type(norm) is nn.BatchNorm2d and norm.affine and norm.momentum is not None and norm.running_mean is not None
        return plain and (norm.training if torch.is_grad_enabled() else True)

    def _fused(self, x: Tensor, stream: Tensor | None, residual: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        """(``x``, with ``stream`` added if there is one; spikes)."""
        norm, lif = self.norm, self.lif
        running_mean, running_var = norm.running_mean, norm.running_var
        assert running_mean is not None and running_var is not None  # _fuses checks it
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        loop = lif.T, rows, lif.dynamics()
        if not norm.training:
            scale = norm.weight / torch.sqrt(running_var + norm.eps)
            shift = norm.bias - running_mean * scale
            return _run(norm_kernels.norm_spikes, x, stream, lif.T, scale, shift, residual, *loop)
        inputs = x, stream, residual, norm.weight, norm.bias, running_mean
        total, spikes, mean, var = NormLIFSteps.apply(*inputs, (norm.eps, *loop))
        n = x[:, 0].numel()
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            running_mean.lerp_(mean, norm.momentum)
            running_var.lerp_(var * (n / max(1, n - 1)), norm.momentum)
        return total, spikes


def add_stream(branch: Tensor, stream: Tensor) -> Tensor:
    """``branch + stream`` (T*B, C, H, W). A stream (B, C, H, W) is the same at every step."""
    repeats = branch.shape[0] // stream.shape[0]  # len(stream) would fix the size of an exported batch
    return branch + (stream if repeats == 1 else torch.cat([stream] * repeats))  # repeat would leave channels-last


def _run(loop: kernels.Loop, x: Tensor, stream: Tensor | None, T: int, *args: object) -> tuple[Tensor, Any]:
    """(``x``, with ``stream`` added if there is one; what ``loop`` makes of it)."""
    if stream is None:
        return x, kernels.run_loop(loop, x, *args)
    return kernels.run_loop(norm_kernels.of_sum, x, stream, loop, T, *args)


class NormLIFSteps(torch.autograd.Function):
    """`norm_kernels.norm_spikes` of a batch, and its gradient. Saves its inputs, or their sum if there is a stream."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        stream: Tensor | None,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        near: Tensor,
        constants: tuple[float, int, int, Dynamics],
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        eps, T, rows, dynamics = constants
        total, sums = _run(norm_kernels.channel_sums, x, stream, T, near, rows)
        mean, var = norm_kernels.statistics(sums, near, x[:, 0].numel())
        norm = norm_kernels.of_channels(mean, var, weight, bias, eps)
        spikes = kernels.run_loop(norm_kernels.norm_spikes, total, norm.scale, norm.shift, residual, T, rows, dynamics)
        ctx.save_for_backward(total, residual, *norm)
        ctx.mark_non_differentiable(mean, var)
        ctx.loop = T, rows, dynamics
        ctx.repeats = 0 if stream is None else len(x) // len(stream)
        return (total if ctx.repeats else None), spikes, mean, var

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor | None, grad_s: Tensor, *_: object) -> tuple[Tensor | None, ...]:
        x, residual, *of_channels = ctx.saved_tensors
        T, rows, dynamics = ctx.loop
        norm = norm_kernels.OfChannels(*of_channels)
        grads = [g if g is None else g.to(x.dtype).contiguous(memory_format=torch.channels_last) for g in (grad_s, grad_total)]
        g, sums = kernels.run_loop(norm_kernels.normed_gradient, x, norm, residual, grads[0], T, rows, dynamics)
        grad_residual, (grad_weight, grad_bias) = None if residual is None else g, sums.to(norm.mean.dtype)
        if not any(ctx.needs_input_grad[:2]):  # a stem that is not trained
            return None, None, grad_residual, grad_weight, grad_bias, None, None
        means = (sums / x[:, 0].numel()).to(norm.mean.dtype)  # here, since the loop would divide in float64 for every element
        grad_x = kernels.run_loop(norm_kernels.gradient_through_norm, x, g, norm, means, grads[1], rows)
        grad_stream = grad_x.unflatten(0, (ctx.repeats, -1)).sum(0) if ctx.repeats > 1 else grad_x
        return grad_x, grad_stream if ctx.repeats else None, grad_residual, grad_weight, grad_bias, None, None
