"""What neurons do with their currents over the steps, and back: plain functions of tensors, which `kernels` runs.

Shapes: T steps, N neurons times batch in any layout. They compute in float32 (float64 for float64 arguments).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Dynamics(NamedTuple):
    """What a neuron does with its currents over the steps, in float32 or float64."""

    fire: Callable[..., list[Tensor]]
    """(currents of every step, *constants) → spikes of every step."""
    back: Callable[..., list[Tensor]]
    """(currents of every step, dL/ds (T, …), *constants) → dL/dx of every step."""
    constants: tuple[Any, ...]


def lif_spikes(currents: Sequence[Tensor], tau: float, decay_input: bool, v_threshold: float, alpha: float) -> list[Tensor]:
    """Spikes of every step: 1 where the membrane reaches ``v_threshold``, else 0."""
    return [(h >= v_threshold).to(h.dtype) for h in charge_and_fire(currents, tau, decay_input, v_threshold)]


def charge_and_fire(currents: Sequence[Tensor], tau: float, decay_input: bool, v_threshold: float) -> list[Tensor]:
    """The membrane h_t at every step, before it fires. It is at rest before the first step."""
    membrane, v = [], None
    for x_t in currents:
        if v is None:  # at rest
            h = x_t / tau if decay_input else x_t
        elif decay_input:
            h = v + (x_t - v) / tau
        else:
            h = v - v / tau + x_t
        membrane.append(h)
        v = h * (1.0 - (h >= v_threshold).to(h.dtype))
    return membrane


def lif_gradients(
    currents: Sequence[Tensor], grad_s: Tensor, tau: float, decay_input: bool, v_threshold: float, alpha: float
) -> list[Tensor]:
    """dL/dx_t of every step, with the triangular surrogate and a detached reset."""
    membrane = charge_and_fire(currents, tau, decay_input, v_threshold)
    gradients, grad_v = [], None
    for h, grad_s_t in zip(reversed(membrane), reversed(grad_s.unbind(0)), strict=True):
        u = h - v_threshold
        grad_h = wide(grad_s_t) * (alpha - alpha * alpha * u.abs()).clamp_min(0.0)
        if grad_v is not None:
            grad_h = grad_h + grad_v * (1.0 - (u >= 0).to(h.dtype))
        gradients.append(grad_h / tau if decay_input else grad_h)
        grad_v = grad_h * (1.0 - 1.0 / tau)
    return gradients[::-1]


def ilif_membrane(
    currents: Sequence[Tensor], tau: float, v_threshold: float, spikes_per_current: float, levels: int
) -> list[tuple[Tensor, Tensor]]:
    """(h_t / V_th, the integer that it fires) of every step. The membrane is at rest before the first step."""
    steps, v = [], None
    for x_t in currents:
        h = x_t if v is None else (1.0 - 1.0 / tau) * v + x_t
        scaled = h * spikes_per_current  # a division would take as long as all the rest
        fired = scaled.clamp(0.0, levels).round()
        steps.append((scaled, fired))
        v = h - fired * v_threshold
    return steps


def ilif_spikes(
    currents: Sequence[Tensor], tau: float, v_threshold: float, spikes_per_current: float, levels: int, detach_reset: bool
) -> list[Tensor]:
    """The integers 0 … ``levels`` that are fired at every step; ``spikes_per_current`` is 1 / V_th."""
    return [fired for _, fired in ilif_membrane(currents, tau, v_threshold, spikes_per_current, levels)]


def ilif_gradients(
    currents: Sequence[Tensor],
    grad_s: Tensor,
    tau: float,
    v_threshold: float,
    spikes_per_current: float,
    levels: int,
    detach_reset: bool,
) -> list[Tensor]:
    """dL/dx_t of every step, straight through where 0 ≤ h / V_th ≤ ``levels``."""
    membrane = ilif_membrane(currents, tau, v_threshold, spikes_per_current, levels)
    gradients, grad_v = [], None
    for (scaled, _), grad_s_t in zip(reversed(membrane), reversed(grad_s.unbind(0)), strict=True):
        passes = (scaled.clamp(0.0, levels) == scaled).to(scaled.dtype)
        grad_h = wide(grad_s_t) * passes * spikes_per_current
        if grad_v is not None:
            grad_h = grad_h + (grad_v if detach_reset else grad_v * (1.0 - passes))
        gradients.append(grad_h)
        grad_v = grad_h * (1.0 - 1.0 / tau)
    return gradients[::-1]


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or float64 where it is that."""
    return x if x.dtype == torch.float64 else x.float()
