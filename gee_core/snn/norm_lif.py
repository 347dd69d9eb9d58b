"""Batch norm, an optional residual sum and neurons in one module, which follows every convolution.

Where the loops compile (see ``kernels``) and the tensors are channels-last, the module takes two passes over memory forward
and two backward, and saves only the convolution's output: backward recomputes the membrane. Elsewhere it runs
``nn.BatchNorm2d``, a sum and the neurons, which are the reference as well.

Shapes: T steps, B batch, C channels, H W space. Steps are folded into the batch, step-major: (T*B, C, H, W). The loops view
them as (T, B, S, C) with S = H*W, compute in float32, and sum over images in float64. Constants of a channel (C,) are computed
apart, by `of_channels`: in a loop, the compiler would take their roots and quotients anew for every element.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gee_core.snn.dynamics import Dynamics, wide
from gee_core.snn.kernels import Loop, compiles, run_loop
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
        if type(lif) not in (LIF, ILIF) or not (lif.is_standard and compiles(x) and is_channels_last(x)):
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
            return _run(norm_spikes, x, stream, lif.T, scale, shift, residual, *loop)
        inputs = x, stream, residual, norm.weight, norm.bias, running_mean
        total, spikes, mean, var = NormLIFSteps.apply(*inputs, (norm.eps, *loop))
        n = x[:, 0].numel()
        with torch.no_grad():  # the running variance is unbiased
            norm.num_batches_tracked.add_(1)
            running_mean.lerp_(mean, norm.momentum)
            running_var.lerp_(var * (n / max(1, n - 1)), norm.momentum)
        return total, spikes


def add_stream(branch: Tensor, stream: Tensor) -> Tensor:
    """``branch + stream`` (T*B, C, H, W). A stream (B, C, H, W) is the same at every step."""
    repeats = branch.shape[0] // stream.shape[0]  # len(stream) would fix the size of an exported batch
    return branch + (stream if repeats == 1 else torch.cat([stream] * repeats))  # repeat would leave channels-last


def _run(loop: Loop, x: Tensor, stream: Tensor | None, T: int, *args: object) -> tuple[Tensor, Any]:
    """(``x``, with ``stream`` added if there is one; what ``loop`` makes of it)."""
    if stream is None:
        return x, run_loop(loop, x, *args)
    return run_loop(of_sum, x, stream, loop, T, *args)


class NormLIFSteps(torch.autograd.Function):
    """`norm_spikes` of a batch, and its gradient. Saves its inputs, or their sum if there is a stream."""

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
        total, sums = _run(channel_sums, x, stream, T, near, rows)
        mean, var = statistics(sums, near, x[:, 0].numel())
        norm = of_channels(mean, var, weight, bias, eps)
        spikes = run_loop(norm_spikes, total, norm.scale, norm.shift, residual, T, rows, dynamics)
        ctx.save_for_backward(total, residual, *norm)
        ctx.mark_non_differentiable(mean, var)
        ctx.loop = T, rows, dynamics
        ctx.repeats = 0 if stream is None else len(x) // len(stream)
        return (total if ctx.repeats else None), spikes, mean, var

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor | None, grad_s: Tensor, *_: object) -> tuple[Tensor | None, ...]:
        x, residual, *constants = ctx.saved_tensors
        T, rows, dynamics = ctx.loop
        norm = OfChannels(*constants)
        grads = [g if g is None else g.to(x.dtype).contiguous(memory_format=torch.channels_last) for g in (grad_s, grad_total)]
        g, sums = run_loop(normed_gradient, x, norm, residual, grads[0], T, rows, dynamics)
        grad_residual, (grad_weight, grad_bias) = None if residual is None else g, sums.to(norm.mean.dtype)
        if not any(ctx.needs_input_grad[:2]):  # a stem that is not trained
            return None, None, grad_residual, grad_weight, grad_bias, None, None
        means = (sums / x[:, 0].numel()).to(norm.mean.dtype)  # here, since the loop would divide in float64 for every element
        grad_x = run_loop(gradient_through_norm, x, g, norm, means, grads[1], rows)
        grad_stream = grad_x.unflatten(0, (ctx.repeats, -1)).sum(0) if ctx.repeats > 1 else grad_x
        return grad_x, grad_stream if ctx.repeats else None, grad_residual, grad_weight, grad_bias, None, None


class OfChannels(NamedTuple):
    """What a batch norm computes with, each (C,): ``normed = (x - mean)·inv_std``, ``y = scale·x + shift``."""

    mean: Tensor
    inv_std: Tensor
    scale: Tensor
    shift: Tensor


def of_channels(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> OfChannels:
    """The constants of a batch norm with the statistics ``mean`` and ``var``."""
    inv_std = (var + eps).rsqrt()
    scale = weight * inv_std
    return OfChannels(mean, inv_std, scale, bias - mean * scale)


def norm_spikes(
    x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, T: int, rows: int, dynamics: Dynamics
) -> Tensor:
    """Spikes (T*B, C, H, W) of currents ``scale·x + shift (+ residual)``.

    ``x`` is (rows*B, C, H, W): rows is T, or 1 where the same row drives every step. ``residual`` is (T*B, C, H, W).
    """
    fire, _, constants = dynamics
    spikes = fire(_currents(_split(x, rows), scale, shift, residual, T), *constants)
    return _join(_stack([s.to(x.dtype) for s in spikes]), x)


def channel_sums(x: Tensor, near: Tensor, rows: int) -> Tensor:
    """Sums (2C,) of ``x`` (rows*B, C, H, W) about an estimate ``near`` (C,) of the mean, and of their squares."""
    d = wide(_split(x, rows)) - near
    return torch.cat([_sum_to_channels(d), _sum_to_channels(d * d)])


def statistics(sums: Tensor, near: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(mean (C,), biased variance (C,)), in the type of ``near``, from `channel_sums` of ``n`` values per channel about it."""
    d_mean, d2_mean = (sums / n).unflatten(0, (2, -1))
    return (near + d_mean).to(near.dtype), (d2_mean - d_mean * d_mean).clamp_min(0.0).to(near.dtype)


def of_sum(x: Tensor, stream: Tensor, loop: Loop, T: int, *args: object) -> tuple[Tensor, Any]:
    """(y, ``loop(y, *args)``) for y = ``x + stream`` (T*B, C, H, W). A stream (B, C, H, W) is the same at every step."""
    total = wide(_split(x, T)) + wide(_split(stream, 1 if stream.shape[0] < x.shape[0] else T))
    y = _join(total.to(torch.promote_types(x.dtype, stream.dtype)), x)
    return y, loop(y, *args)


def normed_gradient(
    x: Tensor, norm: OfChannels, residual: Tensor | None, grad_s: Tensor, T: int, rows: int, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """(dL/dy (rows*B, C, H, W) of the batch norm's output, dL/dweight and dL/dbias (2, C) in float64) of its spikes."""
    _, back, constants = dynamics
    y = _split(x, rows)
    gradients = back(_currents(y, norm.scale, norm.shift, residual, T), _split(grad_s, T), *constants)
    if rows < T:
        gradients = [functools.reduce(torch.add, gradients)]
    g = _stack([g.to(x.dtype) for g in gradients])  # rounded, as a separate batch norm would receive it
    sums = _sum_to_channels(wide(g) * ((wide(y) - norm.mean) * norm.inv_std)), _sum_to_channels(wide(g))
    return _join(g, x), torch.stack(sums)


def gradient_through_norm(x: Tensor, g: Tensor, norm: OfChannels, means: Tensor, grad_x: Tensor | None, rows: int) -> Tensor:
    """dL/dx of a batch norm from dL/dy = ``g`` and ``means`` (2, C), of `normed_gradient`. ``grad_x`` reaches x apart."""
    normed = (wide(_split(x, rows)) - norm.mean) * norm.inv_std
    grad_y = norm.scale * (wide(_split(g, rows)) - means[1] - normed * means[0])
    if grad_x is not None:
        grad_y = grad_y + wide(_split(grad_x, rows))
    return _join(grad_y.to(x.dtype), x)


def _currents(y: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, T: int) -> list[Tensor]:
    normed = [wide(y_t) * scale + shift for y_t in y.unbind(0)]
    if len(normed) < T:
        normed *= T
    if residual is None:
        return normed
    return [z + wide(r) for z, r in zip(normed, _split(residual, T).unbind(0), strict=True)]


def _stack(steps: list[Tensor]) -> Tensor:
    """(B, S, C) of every step → (T, B, S, C). One step is not copied."""
    return torch.stack(steps) if len(steps) > 1 else steps[0][None]


def _sum_to_channels(x: Tensor) -> Tensor:
    """(…, B, S, C) → (C,): over an image's positions, then in float64 over images, so that their order hardly ever counts."""
    return x.sum(2).sum((0, 1), dtype=torch.float64)


def _split(x: Tensor, rows: int) -> Tensor:
    """(rows*B, C, H, W), channels-last → (rows, B, H*W, C), the same memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (rows, -1))


def _join(y: Tensor, like: Tensor) -> Tensor:
    """(T, B, H*W, C) → (T*B, C, H, W) with the H and W of ``like``, the same memory."""
    return y.flatten(0, 1).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)
