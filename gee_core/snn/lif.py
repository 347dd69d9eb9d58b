"""The leaky integrate-and-fire neuron (Lapicque), computed for several time steps at once.

Shapes: T steps, B batch, C channels, H W space. Steps are folded into the batch, step-major: (T*B, C, H, W).

    charge  h_t = v_{t-1} + (x_t - v_{t-1}) / τ        decay_input (the default)
            h_t = v_{t-1} - v_{t-1} / τ + x_t          otherwise
    fire    s_t = 1 where h_t ≥ V_th, else 0           backward: max(0, α - α²·|h_t - V_th|), a triangle of area 1
    reset   v_t = (1 - s_t)·h_t                        to 0, detached: no gradient through s_t here

Paper: says "LIF" and cites Lapicque. Here: the defaults of the authors' own framework, see ``LIF``.
"""

from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from gee_core.errors import is_number, whole_number
from gee_core.snn import kernels

SURROGATES = {"piecewise_quadratic": surrogate.PiecewiseQuadratic, "atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}

RANGES = {"v_threshold": (1e-6, 1e6), "v_reset": (-1e6, 1e6), "surrogate_alpha": (1e-6, 1e6)}
"""Bounds of the arguments of ``LIF``, as in the section `network`."""


def lif_steps(x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """Spikes (T*B, ...) of currents ``x`` (T*B, ...), of its type. Membrane in float32, at rest before the first step."""
    return _unfold(kernels.run_loop(kernels.spikes_TN, _fold(x, T), tau, decay_input, v_threshold), x)


class LIFSteps(torch.autograd.Function):
    """``lif_steps`` with the triangular surrogate. Saves only its input and recomputes the membrane in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = T, (tau, decay_input, v_threshold, alpha)
        return lif_steps(x, T, tau, decay_input, v_threshold)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        T, constants = ctx.constants
        layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        grad_s = grad_s.to(x.dtype).contiguous(memory_format=layout)
        grad_x = kernels.run_loop(kernels.current_gradient_TN, _fold(x, T), _fold(grad_s, T), *constants)
        return _unfold(grad_x, x), None, None, None, None, None


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` is (B, C, H, W), dense, and in channels-last layout."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _fold(x: Tensor, T: int) -> Tensor:
    """(T*B, ...) → (T, N), N in the order of memory, so that a dense tensor is not copied, channels-last or not."""
    if is_channels_last(x):
        x = x.permute(0, 2, 3, 1)
    return x.unflatten(0, (T, x.shape[0] // T)).flatten(1)


def _unfold(y_TN: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``_fold``: (T, N) → the shape and layout of ``like``."""
    if is_channels_last(like):
        B, C, H, W = like.shape
        return y_TN.reshape(B, H, W, C).permute(0, 3, 1, 2)
    return y_TN.reshape(like.shape)


class LIF(neuron.LIFNode):
    """SpikingJelly's ``LIFNode`` for T steps folded into the batch: (T*B, ...) currents in, (T*B, ...) spikes out.

    Every call starts with the membrane at rest and keeps no state, so nothing has to be reset between batches.
    With the hard reset to 0, detached, and the triangular surrogate (the defaults) it runs ``LIFSteps``, which equals
    SpikingJelly spike for spike and in its gradient. Any other setting runs SpikingJelly's own multi-step path.

    Args:
        T: number of time steps.
        tau: membrane time constant τ, in steps, > 1.
        decay_input: whether the input current is divided by τ, as the leak is.
        v_threshold: firing threshold V_th.
        v_reset: membrane after a spike. ``None`` subtracts V_th instead (soft reset).
        detach_reset: no gradient through the reset.
        surrogate_name: one of ``SURROGATES``.
        surrogate_alpha: α, the slope of the surrogate.

    Raises:
        ValueError: an argument is out of range, or the surrogate is unknown.

    Examples:
        >>> gee_core.LIF(T=4)(torch.full((4, 1), 0.8)).flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        T: int = 4,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 0.5,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate_name: str = "piecewise_quadratic",
        surrogate_alpha: float = 2.0,
    ):
        T = whole_number("T", T)
        if not is_number(tau, 1, 1e6) or tau == 1:
            raise ValueError(f"tau must be > 1 and at most 1e6, got {tau!r}")
        for name, value in {"v_threshold": v_threshold, "v_reset": v_reset, "surrogate_alpha": surrogate_alpha}.items():
            low, high = RANGES[name]
            if value is not None and not is_number(value, low, high):
                raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
        for name, flag in {"decay_input": decay_input, "detach_reset": detach_reset}.items():
            if not isinstance(flag, bool):
                raise ValueError(f"{name} must be True or False, got {flag!r}")
        if surrogate_name not in SURROGATES:
            raise ValueError(f"surrogate_name must be one of {', '.join(SURROGATES)}, got {surrogate_name!r}")
        super().__init__(
            tau=float(tau),
            decay_input=decay_input,
            v_threshold=float(v_threshold),
            v_reset=None if v_reset is None else float(v_reset),
            detach_reset=detach_reset,
            surrogate_function=SURROGATES[surrogate_name](alpha=surrogate_alpha),
            step_mode="m",
        )
        self.T = T

    @property
    def is_standard(self) -> bool:
        """Whether it runs ``LIFSteps``, whose settings it has then."""
        function = self.surrogate_function
        hard = self.v_reset == 0.0 and self.detach_reset
        return self.step_mode == "m" and hard and type(function) is surrogate.PiecewiseQuadratic

    def settings(self) -> tuple[Any, ...]:
        """T, the neuron's constants, and the surrogate with its α."""
        f = self.surrogate_function
        membrane = self.T, self.tau, self.decay_input, self.v_threshold, self.v_reset, self.detach_reset
        return *membrane, type(f).__name__, getattr(f, "alpha", None)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, ...) of currents ``x`` (T*B, ...). In step mode ``s``, those of the next step, (B, ...)."""
        if self.step_mode == "s":
            spikes: Tensor = self.single_step_forward(x)
            return spikes
        if x.shape[0] % self.T:
            raise ValueError(f"LIF(T={self.T}) takes T*B rows, all samples of one step after another, got {x.shape[0]} rows")
        if not self.is_standard:
            self.reset()
            spikes = self.multi_step_forward(x.unflatten(0, (self.T, -1))).flatten(0, 1)
            self.reset()
            return spikes
        if torch.is_grad_enabled() and x.requires_grad:
            alpha = self.surrogate_function.alpha
            return LIFSteps.apply(x, self.T, self.tau, self.decay_input, self.v_threshold, alpha)
        return lif_steps(x, self.T, self.tau, self.decay_input, self.v_threshold)

    def extra_repr(self) -> str:
        return f"T={self.T}, {super().extra_repr()}"
