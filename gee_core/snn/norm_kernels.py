"""Batch norm and the loops over time of the neurons after it, two passes over memory in each direction. See ``kernels``.

Shapes: T steps, B batch, C channels, H W space, channels-last in memory, which the loops view as (T, B, S, C) with S = H*W.
They compute in float32, and sum over images in float64.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from gee_core.snn.kernels import Dynamics, Loop, wide


def norm_spikes(
    x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, T: int, rows: int, dynamics: Dynamics
) -> Tensor:
    """Spikes (T*B, C, H, W) of currents ``scale·x + shift (+ residual)``.

    ``x`` is (rows*B, C, H, W): rows is T, or 1 where the same row drives every step. ``residual`` is (T*B, C, H, W).
    """
    fire, _, constants = dynamics
    spikes = fire(_currents(_split(x, rows), scale, shift, residual, T), *constants)
    return _join(torch.stack([s.to(x.dtype) for s in spikes]), x)


def channel_sums(x: Tensor, near: Tensor, rows: int) -> Tensor:
    """Sums of ``x`` (rows*B, C, H, W) about an estimate ``near`` (C,) of the mean, of their squares, and their number."""
    d = wide(_split(x, rows)) - near
    n = torch.full((1,), d.shape[0] * d.shape[1] * d.shape[2], dtype=torch.float64, device=d.device)
    return torch.cat([_sum_to_channels(d), _sum_to_channels(d * d), n])


def statistics(sums: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """(mean (C,), biased variance (C,)), in the type of ``near``, from `channel_sums` about it."""
    d_mean, d2_mean = (sums[:-1] / sums[-1]).unflatten(0, (2, -1))
    return (near + d_mean).to(near.dtype), (d2_mean - d_mean * d_mean).clamp_min(0.0).to(near.dtype)


def batch_norm_spikes(
    x: Tensor,
    sums: Tensor,
    near: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    residual: Tensor | None,
    T: int,
    rows: int,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor, Tensor]:
    """(spikes (T*B, C, H, W), mean (C,), biased variance (C,)) with the statistics of ``sums``, of `channel_sums`."""
    mean, var = statistics(sums, near)
    scale, shift = _affine(weight, bias, mean, (var + eps).rsqrt())
    return norm_spikes(x, scale, shift, residual, T, rows, dynamics), mean, var


def of_sum(x: Tensor, stream: Tensor, loop: Loop, T: int, *args: Any) -> tuple[Tensor, Any]:
    """(y, ``loop(y, *args)``) for y = ``x + stream`` (T*B, C, H, W). A stream (B, C, H, W) is the same at every step."""
    total = wide(_split(x, T)) + wide(_split(stream, 1 if stream.shape[0] < x.shape[0] else T))
    y = _join(total.to(torch.promote_types(x.dtype, stream.dtype)), x)
    return y, loop(y, *args)


def normed_gradient(
    x: Tensor,
    norm: tuple[Tensor, ...],
    eps: float,
    residual: Tensor | None,
    grad_s: Tensor,
    T: int,
    rows: int,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor]:
    """(dL/dy (rows*B, C, H, W) of the batch norm's output, dL/dweight and dL/dbias (2, C) in float64) of its spikes."""
    weight, bias, mean, var = norm
    _, back, constants = dynamics
    y = _split(x, rows)
    inv_std = (var + eps).rsqrt()
    scale, shift = _affine(weight, bias, mean, inv_std)
    gradients = back(_currents(y, scale, shift, residual, T), _split(grad_s, T), *constants)
    if rows < T:
        gradients = [functools.reduce(torch.add, gradients)]
    g = torch.stack([g.to(x.dtype) for g in gradients])  # rounded, as a separate batch norm would receive it
    sums = _sum_to_channels(wide(g) * ((wide(y) - mean) * inv_std)), _sum_to_channels(wide(g))
    return _join(g, x), torch.stack(sums)


def gradient_through_norm(
    x: Tensor,
    g: Tensor,
    norm: tuple[Tensor, ...],
    eps: float,
    means: Tensor,
    grad_x: Tensor | None,
    rows: int,
) -> Tensor:
    """dL/dx of a batch norm from dL/dy = ``g`` and ``means`` (2, C), of `normed_gradient`. ``grad_x`` reaches x apart."""
    weight, _, mean, var = norm
    inv_std = (var + eps).rsqrt()
    normed = (wide(_split(x, rows)) - mean) * inv_std
    grad_y = weight * inv_std * (wide(_split(g, rows)) - means[1] - normed * means[0])
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


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, inv_std: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight * inv_std
    return scale, bias - mean * scale


def _sum_to_channels(x: Tensor) -> Tensor:
    """(…, B, S, C) → (C,): over an image's positions, then in float64 over images, so that their order hardly ever counts."""
    return x.sum(2).sum((0, 1), dtype=torch.float64)


def _split(x: Tensor, rows: int) -> Tensor:
    """(rows*B, C, H, W), channels-last → (rows, B, H*W, C), the same memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (rows, -1))


def _join(y: Tensor, like: Tensor) -> Tensor:
    """(T, B, H*W, C) → (T*B, C, H, W) with the H and W of ``like``, the same memory."""
    return y.flatten(0, 1).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)
