"""Leaky integrate-and-fire neurons, LIF (Lapicque) and I-LIF (integers), computed for several time steps at once.

Shapes: T steps, B batch, C channels, H W space. Steps are folded into the batch, step-major: (T*B, C, H, W).

    charge  h_t = v_{t-1} + (x_t - v_{t-1}) / τ        decay_input (the default)
            h_t = v_{t-1} - v_{t-1} / τ + x_t          otherwise
    fire    s_t = 1 where h_t ≥ V_th, else 0           backward: max(0, α - α²·|h_t - V_th|), a triangle of area 1
    reset   v_t = (1 - s_t)·h_t                        to 0, detached: no gradient through s_t here

Paper: says "LIF" and cites Lapicque. Here: the defaults of the authors' own framework, see ``LIF``.
"""

from typing import Any, TypeAlias

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from gee_core.config import NetworkStructure
from gee_core.config.section import RESET, SCALE, TAU
from gee_core.errors import is_number, whole_number
from gee_core.snn import kernels
from gee_core.snn.dynamics import Dynamics, ilif_gradients, ilif_spikes, lif_gradients, lif_spikes

SURROGATES = {"piecewise_quadratic": surrogate.PiecewiseQuadratic, "atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}

Neurons: TypeAlias = "LIF | ILIF"


class Steps(torch.autograd.Function):
    """``fire`` with the gradient of the neuron. Saves only its input and recomputes the membrane in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, T: int, dynamics: Dynamics) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = T, dynamics
        return fire(x, T, dynamics)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        T, dynamics = ctx.constants
        layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        grad_s = grad_s.to(x.dtype).contiguous(memory_format=layout)
        return _unfold(kernels.run_loop(kernels.current_gradient_TN, _fold(x, T), _fold(grad_s, T), dynamics), x), None, None


def fire(x: Tensor, T: int, dynamics: Dynamics) -> Tensor:
    """Spikes (T*B, ...) of currents ``x`` (T*B, ...), of its type. Membrane in float32, at rest before the first step."""
    return _unfold(kernels.run_loop(kernels.spikes_TN, _fold(x, T), dynamics), x)


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


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError where the argument ``name`` is no number from ``low`` to ``high``, τ above ``low``."""
    if not is_number(value, low, high) or (name == "tau" and value == low):
        least = f"> {low:g} and at most" if name == "tau" else f"from {low:g} to"
        raise ValueError(f"{name} must be {least} {high:g}, got {value!r:.40}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError where the argument ``name`` is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


class FoldedSteps(neuron.BaseNode):
    """A neuron of SpikingJelly for T steps folded into the batch, without a state between two calls."""

    T: int
    v_seq: Tensor | None

    @property
    def is_standard(self) -> bool:
        """Whether it runs ``dynamics``, whose settings it has then, in place of SpikingJelly's own multi-step path."""
        return self.step_mode == "m" and not self.store_v_seq

    def dynamics(self) -> Dynamics:
        """What `kernels` runs over its steps."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, ...) of currents ``x`` (T*B, ...). In step mode ``s``, those of the next step, (B, ...)."""
        if self.step_mode == "s":
            spikes: Tensor = self.single_step_forward(x)
            return spikes
        if x.shape[0] % self.T:
            kind = type(self).__name__
            raise ValueError(f"{kind}(T={self.T}) takes T*B rows, all samples of one step after another, got {x.shape[0]} rows")
        if not self.is_standard:
            self.reset()
            spikes = self.multi_step_forward(x.unflatten(0, (self.T, -1))).flatten(0, 1)
            membranes = self.v_seq
            self.reset()
            self.v_seq = membranes
            return spikes
        if torch.is_grad_enabled() and x.requires_grad:
            return Steps.apply(x, self.T, self.dynamics())
        return fire(x, self.T, self.dynamics())


class LIF(FoldedSteps, neuron.LIFNode):
    """SpikingJelly's ``LIFNode`` for T steps folded into the batch: (T*B, ...) currents in, (T*B, ...) spikes out.

    Every call starts with the membrane at rest and keeps no state, so nothing has to be reset between batches.
    With the hard reset to 0, detached, and the triangular surrogate (the defaults) it runs the loops of `kernels`, which equal
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
        check_range("tau", tau, *TAU)
        check_flag("decay_input", decay_input)
        check_range("v_threshold", v_threshold, *SCALE)
        check_range("v_reset", 0.0 if v_reset is None else v_reset, *RESET)
        check_flag("detach_reset", detach_reset)
        check_range("surrogate_alpha", surrogate_alpha, *SCALE)
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
        """Whether it has the settings of `dynamics.lif_spikes`, its gradient, and no membranes to store."""
        hard = self.v_reset == 0.0 and self.detach_reset
        return super().is_standard and hard and type(self.surrogate_function) is surrogate.PiecewiseQuadratic

    def dynamics(self) -> Dynamics:
        """LIF's loops, for ``is_standard`` settings."""
        constants = self.tau, self.decay_input, self.v_threshold, self.surrogate_function.alpha
        return Dynamics(lif_spikes, lif_gradients, constants)

    def extra_repr(self) -> str:
        return f"T={self.T}, decay_input={self.decay_input}, {super().extra_repr()}"


class ILIF(FoldedSteps, neuron.ILIFNode):
    """SpikingJelly's ``ILIFNode`` for T steps folded into the batch: (T*B, ...) currents in, integers 0 … ``levels`` out.

    An integer n stands for n binary spikes in ``levels`` slots of its step, as ``gee_core.to_binary`` runs them. At T = 1 the
    neuron is a quantiser with ``levels`` + 1 levels. Every call starts with the membrane at rest and keeps no state.

        charge  h_t = (1 - 1/τ)·v_{t-1} + x_t
        fire    s_t = round(clip(h_t / V_th, 0, D))    backward: 1 / V_th where 0 ≤ h_t / V_th ≤ D, else 0
        reset   v_t = h_t - s_t·V_th

    Source: Luo et al., ECCV 2024, arXiv:2407.20708.

    Args:
        T: number of time steps.
        levels: D, the largest integer that it fires.
        tau: membrane time constant τ, in steps, > 1.
        v_threshold: V_th, the current per spike.
        detach_reset: no gradient through the reset.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> gee_core.ILIF(T=1, levels=4)(torch.tensor([[-1.0], [0.8], [2.2], [9.0]])).flatten()
        tensor([0., 1., 2., 4.])
    """

    def __init__(self, T: int = 1, levels: int = 4, tau: float = 4 / 3, v_threshold: float = 1.0, detach_reset: bool = False):
        T, levels = whole_number("T", T), whole_number("levels", levels)
        check_range("tau", tau, *TAU)
        check_range("v_threshold", v_threshold, *SCALE)
        check_flag("detach_reset", detach_reset)
        count = surrogate.MultiLevelSpikeCount(levels)
        super().__init__(float(tau), float(v_threshold), count, detach_reset, step_mode="m")
        self.T, self.levels = T, levels

    def dynamics(self) -> Dynamics:
        """I-LIF's loops."""
        constants = self.tau, self.v_threshold, 1.0 / self.v_threshold, self.levels, self.detach_reset
        return Dynamics(ilif_spikes, ilif_gradients, constants)

    def extra_repr(self) -> str:
        return f"T={self.T}, levels={self.levels}, {super().extra_repr()}"


def make_neurons(network: NetworkStructure) -> Neurons:
    """The neurons of the section `network`."""
    if network.neuron == "ilif":
        assert network.levels is not None  # the section says it
        return ILIF(network.T, network.levels, network.tau, network.v_threshold, network.detach_reset)
    return LIF(
        network.T,
        network.tau,
        network.decay_input,
        network.v_threshold,
        network.v_reset,
        network.detach_reset,
        network.surrogate,
        network.surrogate_alpha,
    )
