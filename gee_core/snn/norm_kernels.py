"""Batch norm and the loops over time of the neurons after it, two passes over memory in each direction. See ``kernels``.

Shapes: T steps, B batch, C channels, H W space, channels-last in memory, which the loops view as (T, B, S, C) with S = H*W.
They compute in float32, and sum over images in float64. Constants of a channel (C,) are computed apart, by `of_channels`: in a
loop, the compiler would take their roots and quotients anew for every element.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gee_core.snn.dynamics import Dynamics, wide
from gee_core.snn.kernels import Loop


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
