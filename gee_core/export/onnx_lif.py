"""LIF neurons as one node of torch's exported graph, written out in ONNX operators at the end.

Traced, their loop over time is most of a network's graph, and the exporter's time grows with it. One step of the loop:

    h_t = v_{t-1} + (x_t - v_{t-1}) / τ,  or v_{t-1} - v_{t-1} / τ + x_t;  s_t = h_t ≥ V_th;  v_t = 0 where s_t, else h_t

Shapes: T steps, B batch. Steps are folded into the batch, step-major: (T*B, ...).
"""

from collections.abc import Callable
from typing import Any

import onnxscript
import torch
from onnxscript import opset18 as op
from torch import Tensor, nn

from gee_core.snn.lif import LIF


@torch.library.custom_op("gee::lif", mutates_args=())
def lif(x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """Spikes (T*B, ...) of currents ``x`` (T*B, ...)."""
    raise NotImplementedError("gee::lif is for export only")


@lif.register_fake
def _like_the_currents(x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    return torch.empty_like(x)


def lif_in_onnx(x: Any, T: int, tau: float, decay_input: bool, v_threshold: float) -> Any:
    """The operators of ``lif``, in the arithmetic of ``gee_core.snn.kernels``."""
    tau_1, threshold_1, zero_1 = (op.Constant(value_float=value) for value in (tau, v_threshold, 0.0))
    spikes, v = [], None
    for x_t in op.Split(x, axis=0, num_outputs=T) if T > 1 else [x]:
        if v is None:  # at rest
            h = op.Div(x_t, tau_1) if decay_input else x_t
        elif decay_input:
            h = op.Add(v, op.Div(op.Sub(x_t, v), tau_1))
        else:
            h = op.Add(op.Sub(v, op.Div(v, tau_1)), x_t)
        fired = op.GreaterOrEqual(h, threshold_1)
        spikes.append(op.Cast(fired, to=onnxscript.FLOAT.dtype))
        v = op.Where(fired, zero_1, h)
    return op.Concat(*spikes, axis=0)  # type: ignore[type-var]


TRANSLATIONS: dict[Callable, Callable] = {torch.ops.gee.lif.default: lif_in_onnx}
"""For `torch.onnx.export`."""


class OneNodeLIF(nn.Module):
    """Takes the place of a ``LIF`` with the standard settings while its network is exported."""

    def __init__(self, neurons: LIF):
        super().__init__()
        self.T = neurons.T
        self._constants = neurons.T, neurons.tau, neurons.decay_input, neurons.v_threshold

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, ...) of currents ``x`` (T*B, ...)."""
        return torch.ops.gee.lif(x, *self._constants)


def with_one_node_lif(net: nn.Module) -> nn.Module:
    """``net``, with every standard ``LIF`` replaced in place, but for subclasses and those with hooks: they are traced."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is LIF and child.is_standard and not (child._forward_hooks or child._forward_pre_hooks):
                setattr(module, name, OneNodeLIF(child))
    return net
