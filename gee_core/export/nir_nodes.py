"""The nodes and edges of a NIR graph, layer by layer.

NIR has neither batch norm nor max pooling, nor a node for a sum. So batch norm becomes part of the convolution before it, or a
1x1 convolution with a diagonal weight. A max pool of spikes becomes a sum and neurons that any spike makes fire. A sum that
several nodes read is held by a pool of 1x1.

Shapes: C channels, H W space; a graph has neither batch nor steps.
"""

from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import Tensor, nn

from gee_core.errors import ExportError
from gee_core.snn.lif import LIF

DT = 1e-4
"""Seconds of a time step, because NIR's time constants are in seconds: SpikingJelly's default, and what snnTorch assumes."""


@dataclass(frozen=True)
class Signal:
    """What a node reads: the sum of the outputs of other nodes."""

    sources: tuple[str, ...]
    """Names of the nodes, each another one."""
    shape: tuple[int, ...]
    """(C, H, W), or (N,)."""
    factor: float = 1.0
    """The number by which the values are to be multiplied: 1/k² after a sum that stands for a mean."""
    binary: bool = False
    """Whether the values are spikes, 0 or 1."""

    def __add__(self, other: "Signal") -> "Signal":
        assert (self.shape, self.factor) == (other.shape, other.factor)
        return Signal(self.sources + other.sources, self.shape, self.factor)


class GraphBuilder:
    """Collects the nodes of a graph for images of ``shape`` (C, H, W). Pools become ``pool``, ``sum`` or ``avg``."""

    def __init__(self, shape: tuple[int, int, int], pool: str):
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.input = Signal(("input",), shape)
        self._pool = pool

    def add(
        self, name: str, node: nir.NIRNode, x: Signal, shape: tuple[int, ...], factor: float = 1.0, binary: bool = False
    ) -> Signal:
        """Add ``node``, which reads ``x`` and puts out ``shape``."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in x.sources]
        return Signal((name,), shape, factor, binary)

    def conv(self, name: str, x: Signal, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Signal:
        """A convolution without bias, and the batch norm after it."""
        weight = conv.weight.detach().double() * x.factor
        bias = weight.new_zeros(len(weight))
        if norm is not None:
            scale, bias = affine_of(norm)
            weight = weight * scale[:, None, None, None]
        return self._conv2d(name, x, weight, bias, conv.stride[0], int(conv.padding[0]))

    def norm(self, name: str, x: Signal, norm: nn.BatchNorm2d) -> Signal:
        """A batch norm with no convolution before it: 1x1, diagonal, and dense, because SpikingJelly reads no grouped one."""
        scale, shift = affine_of(norm)
        return self._conv2d(name, x, torch.diag(scale * x.factor)[:, :, None, None], shift)

    def _conv2d(self, name: str, x: Signal, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Signal:
        C, *size = len(weight), *(_pooled(n, weight.shape[-1], stride, padding) for n in x.shape[1:])
        node = nir.Conv2d(x.shape[1:], _array(weight), stride, padding, 1, 1, _array(bias))
        return self.add(name, node, x, (C, *size))

    def lif(self, name: str, x: Signal, neurons: LIF) -> Signal:
        """LIF neurons. ExportError where they subtract the threshold when they fire."""
        if neurons.v_reset is None:
            raise ExportError(
                "{argument} = null: NIR has no soft reset", "set {argument} to 0 and train the network anew", "v_reset"
            )
        assert x.factor == 1
        unit = 1.0 if neurons.decay_input else neurons.tau
        return self._lif(name, x, neurons.tau, neurons.v_threshold / unit, neurons.v_reset / unit)

    def _lif(self, name: str, x: Signal, tau: float, v_threshold: float, v_reset: float) -> Signal:
        """LIF neurons whose input is divided by ``tau``, as r = 1 says: not every reader heeds r.

        Neurons whose input is not divided, v - v/τ + x, are the same with their membrane in units of τ: u + (x - u)/τ, u = v/τ.
        """
        # NIR fires above a threshold, these neurons at it too
        just_below = float(np.nextafter(np.float32(v_threshold), np.float32(0)))
        values = {"tau": tau * DT, "r": 1.0, "v_leak": v_reset, "v_threshold": just_below, "v_reset": v_reset}
        node = nir.LIF(**{key: np.full(x.shape, value) for key, value in values.items()})
        return self.add(name, node, x, x.shape, binary=True)

    def max_pool(self, name: str, x: Signal, pool: nn.MaxPool2d, tau: float) -> Signal:
        """A max pool of spikes: a sum, and neurons that half a spike would make fire, at rest before every step."""
        if not x.binary:
            reason = "NIR has no max pool, and only one of spikes can be expressed by neurons"
            raise ExportError(f"{name} pools values that are no spikes: {reason}")
        k, stride, padding = (int(value) for value in (pool.kernel_size, pool.stride, pool.padding))  # type: ignore[arg-type]
        x = self.avg_pool(name, x, k, stride, padding)
        a_spike = 1 / (k**2 * x.factor)
        return self._lif(f"{name}.lif", x, tau, 0.5 * a_spike / tau, 0.0)

    def avg_pool(self, name: str, x: Signal, kernel: int = 1, stride: int = 1, padding: int = 0) -> Signal:
        """Means of ``kernel`` x ``kernel`` values. Of one value: ``x`` as the output of one node that others read."""
        is_sum = self._pool == "sum" and not padding  # readers of SumPool2d ignore its padding
        shape = (x.shape[0], *(_pooled(n, kernel, stride, padding) for n in x.shape[1:]))
        pairs = (np.array([value, value]) for value in (kernel, stride, padding))
        node = (nir.SumPool2d if is_sum else nir.AvgPool2d)(*pairs)
        return self.add(name, node, x, shape, factor=x.factor / kernel**2 if is_sum else x.factor)

    def flatten(self, name: str, x: Signal) -> Signal:
        """(C, H, W) → (C*H*W,). Dimensions are counted from the end, where readers with a batch in front agree with NIR."""
        node = nir.Flatten({"input": np.array(x.shape)}, -3, -1)
        return self.add(name, node, x, (int(np.prod(x.shape)),), factor=x.factor)

    def linear(self, name: str, x: Signal, linear: nn.Linear, norm: nn.BatchNorm2d | None = None) -> Signal:
        """A fully connected layer, and a batch norm before the means that it reads."""
        weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
        if norm is not None:
            scale, shift = (value.repeat_interleave(weight.shape[1] // len(value)) for value in affine_of(norm))
            bias, weight = bias + weight @ shift, weight * scale
        return self.add(name, nir.Affine(_array(weight * x.factor), _array(bias)), x, (len(weight),))

    def build(self, x: Signal, metadata: dict[str, float]) -> nir.NIRGraph:
        """The graph whose output is ``x``."""
        self.add("output", nir.Output({"output": np.array(x.shape)}), x, x.shape)
        return nir.NIRGraph(self.nodes, self.edges, metadata)


def affine_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,) in float64, of a batch norm in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _pooled(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.float().cpu().numpy())
