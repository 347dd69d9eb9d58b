"""The nodes and edges of a NIR graph, layer by layer.

NIR has neither batch norm nor max pooling, nor a node for a sum. So batch norm becomes part of the convolution before it, or a
1x1 convolution with a diagonal weight. A max pool of spikes becomes a sum and neurons that any spike makes fire. A sum that
several nodes read is held by a pool of 1x1.

Shapes: C channels, H W space; a graph has neither batch nor steps.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import nir
import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from gee_core.errors import ExportError, InputError
from gee_core.snn.lif import LIF

DT = 1e-4
"""Seconds of a time step, because NIR's time constants are in seconds: SpikingJelly's default, and what snnTorch assumes."""


@dataclass(frozen=True)
class Signal:
    """What a node reads: the sum of the outputs of other nodes. A network's code runs on it as on a tensor (T*B, C, H, W)."""

    graph: "GraphBuilder"
    sources: tuple[str, ...]
    """Names of the nodes, each another one."""
    size: tuple[int, ...]
    """(C, H, W), or (N,)."""
    factor: float = 1.0
    """The number by which the values are to be multiplied: 1/k² after a sum that stands for a mean."""
    binary: bool = False
    """Whether the values are spikes, 0 or 1."""

    is_cpu = is_cuda = False
    device = torch.device("cpu")
    shape = property(lambda self: (1, *self.size))
    ndim = property(lambda self: len(self.shape))

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., object], types: object, args: Iterable[object], kwargs: dict[str, object] | None = None
    ) -> "Signal":
        return getattr(cls, function.__name__)(*args, **(kwargs or {}))

    def __add__(self, other: "Signal") -> "Signal":
        if (self.shape, self.factor) != (other.shape, other.factor) or {*self.sources} & {*other.sources}:
            raise ExportError(f"{self.sources} + {other.sources}: NIR adds outputs of one shape, each once", 'name pool="avg"')
        # one node, since the rounding of sums of three or more depends on their order
        x, y = (self.graph.avg_pool(f"{s.sources[-1]}.sum", s) if s.sources[1:] else s for s in (self, other))
        return Signal(self.graph, x.sources + y.sources, x.size, x.factor)

    def repeat(self, *times: int, **layout: object) -> "Signal":
        """The same at every step."""
        if {*times[1:]} - {1}:
            raise ExportError(f"repeat{times}: NIR repeats no values within a step")
        return self

    clone = repeat

    def unflatten(self, dim: int, sizes: object) -> "Signal":
        """The steps apart from the batch."""
        if dim != 0:
            raise ExportError(f"unflatten({dim}, {sizes}): NIR has no such node")
        return self

    def flatten(self, start_dim: int = 0, end_dim: int = -1, name: str = "flatten") -> "Signal":
        """(C, H, W) → (C*H*W,), or the steps folded into the batch."""
        if (start_dim, end_dim) == (0, 1) or (len(self.size) == 1 and start_dim):
            return self
        if start_dim not in (1, 2, -3) or end_dim != -1:
            raise ExportError(f"{name}: NIR flattens whole maps, not from dimension {start_dim} to {end_dim}")
        # dimensions are counted from the end, where readers with a batch in front agree with NIR
        node = nir.Flatten({"input": np.array(self.size)}, -3, -1)
        return self.graph.add(name, node, self, factor=self.factor)


class GraphBuilder:
    """Collects the nodes of a graph for images of ``shape`` (C, H, W). Pools become ``pool``, ``sum`` or ``avg``."""

    def __init__(self, shape: tuple[int, int, int], pool: str):
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.input = Signal(self, ("input",), shape)
        self._norms: dict[str, tuple[Tensor, Tensor]] = {}
        self._pool = pool
        self._tau = 2.0  # of the last neurons

    def add(
        self,
        name: str,
        node: nir.NIRNode,
        x: Signal,
        size: tuple[int, ...] | None = None,
        factor: float = 1,
        binary: bool = False,
    ) -> Signal:
        """Add ``node``, which reads ``x`` and puts out ``size``, None if it says that itself. InputError: it takes another."""
        if name in self.nodes:
            raise ExportError(f"{name} is called twice, and a node of NIR runs once at every step")
        takes = node.input_type["input"]
        if takes is not None and tuple(takes) != x.size:
            problem = f"{name} takes {(*takes.tolist(),)}, and images {self.input.size} give {x.size}"
            raise InputError(problem, "name the in_channels and image_size that it is built for")
        self.nodes[name] = node
        self.edges += [(source, name) for source in x.sources]
        return Signal(self, (name,), size or tuple(map(int, node.output_type["output"])), factor, binary)

    def conv(self, name: str, x: Signal, conv: nn.Conv2d) -> Signal:
        """A convolution."""
        if conv.groups > 1 or conv.padding_mode != "zeros":
            raise ExportError(f"{name} is {conv}: NIR has ungrouped convolutions padded with zeros")
        weight, bias = _numbers(conv, x.factor)
        node = nir.Conv2d(x.size[1:], _array(weight), conv.stride, conv.padding, conv.dilation, 1, _array(bias))
        return self.add(name, node, x)

    def norm(self, name: str, x: Signal, norm: nn.BatchNorm2d) -> Signal:
        """A batch norm: 1x1, diagonal, and dense, because SpikingJelly reads no grouped one."""
        if norm.running_mean is None or norm.running_var is None or not norm.affine:
            raise ExportError(f"{name} is {norm}: NIR has those with running statistics, weight and bias")
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.detach().double() - norm.running_mean.double() * scale
        self._norms[name] = scale, shift
        weight = torch.diag(scale * x.factor)[:, :, None, None]
        return self.add(name, nir.Conv2d(x.size[1:], _array(weight), 1, 0, 1, 1, _array(shift)), x)

    def neurons(self, name: str, x: Signal, layer: neuron.BaseNode) -> Signal:
        """LIF or IF neurons. ExportError where they subtract the threshold when they fire."""
        if type(layer) not in (LIF, neuron.LIFNode, neuron.IFNode):  # a class that inherits may do anything
            remedy = "take LIF or IFNode and train the network anew, or export it with to_onnx"
            raise ExportError(f"{name}: NIR has no node for {type(layer).__name__}", remedy)
        if layer.v_reset is None:
            remedy = "set it to 0 and train the network anew"
            raise ExportError(f"= null in {name}: NIR has no soft reset", remedy, ("v_reset",))
        if isinstance(layer, neuron.IFNode):
            values = {"r": 1 / DT, "v_reset": layer.v_reset / x.factor}
            return self._neurons(nir.IF, name, x, layer.v_threshold / x.factor, values)
        self._tau = layer.tau
        unit = (1.0 if layer.decay_input else layer.tau) * x.factor
        return self._lif(name, x, layer.v_threshold / unit, layer.v_reset / unit)

    def _lif(self, name: str, x: Signal, v_threshold: float, v_reset: float) -> Signal:
        """LIF neurons whose input is divided by τ, as r = 1 says: not every reader heeds r.

        Neurons whose input is not divided, v - v/τ + x, are the same with their membrane in units of τ: u + (x - u)/τ, u = v/τ.
        """
        values = {"tau": self._tau * DT, "r": 1.0, "v_leak": v_reset, "v_reset": v_reset}
        return self._neurons(nir.LIF, name, x, v_threshold, values)

    def _neurons(self, kind: type[nir.NIRNode], name: str, x: Signal, v_threshold: float, values: dict[str, float]) -> Signal:
        # NIR fires above a threshold, these neurons at it too
        just_below = float(np.nextafter(np.float32(v_threshold), np.float32(0)))
        node = kind(**{key: np.full(x.size, value) for key, value in (values | {"v_threshold": just_below}).items()})
        return self.add(name, node, x, binary=True)

    def max_pool(self, name: str, x: Signal, pool: nn.MaxPool2d) -> Signal:
        """A max pool of spikes: a sum, and neurons that half a spike would make fire, at rest before every step."""
        if not x.binary:
            raise ExportError(f"{name} pools values that are no spikes: NIR has no max pool, and neurons replace one of spikes")
        kernel, stride, padding = windows(name, pool)
        x = self.avg_pool(name, x, kernel, stride, padding)
        a_spike = 1 / (kernel**2 * x.factor)
        return self._lif(f"{name}.lif", x, 0.5 * a_spike / self._tau, 0.0)

    def avg_pool(self, name: str, x: Signal, kernel: int = 1, stride: int = 1, padding: int = 0) -> Signal:
        """Means of ``kernel`` x ``kernel`` values. Of one value: ``x`` as the output of one node that others read."""
        is_sum = self._pool == "sum" and not padding  # readers of SumPool2d ignore its padding
        shape = (x.size[0], *((n + 2 * padding - kernel) // stride + 1 for n in x.size[1:]))
        pairs = (np.array([value, value]) for value in (kernel, stride, padding))
        node = (nir.SumPool2d if is_sum else nir.AvgPool2d)(*pairs)
        return self.add(name, node, x, shape, factor=x.factor / kernel**2 if is_sum else x.factor)

    def adaptive_pool(self, name: str, x: Signal, pool: nn.AdaptiveAvgPool2d) -> Signal:
        """Means of equal windows, of which the pool makes 1 or 2 a side, or as many as divide the map."""
        (side, *others), (size, width) = np.unique(np.asarray(pool.output_size)).tolist(), x.size[1:]
        if others or size != width or size < side or (size % side and side > 2):
            raise ExportError(f"{name} makes {pool.output_size} of maps of {size} x {width}: NIR has pools of equal windows")
        return self.avg_pool(name, x, math.ceil(size / side), size // side) if size > side else x

    def linear(self, name: str, x: Signal, linear: nn.Linear) -> Signal:
        """A fully connected layer."""
        weight, bias = _numbers(linear, x.factor)
        return self.add(name, nir.Affine(_array(weight), _array(bias)), x)

    def build(self, x: Signal, metadata: dict[str, float]) -> nir.NIRGraph:
        """The graph whose output is ``x``."""
        if x.factor != 1:
            raise ExportError("the network ends with a mean, which this graph has as a sum", 'name pool="avg"')
        self.add("output", nir.Output({"output": np.array(x.size)}), x)
        for name, (scale, shift) in self._norms.items():  # part of the convolution before it, if nothing else reads that
            source, *others = (a for a, b in self.edges if b == name)
            conv = self.nodes[source]
            if isinstance(conv, nir.Conv2d) and not others and [a for a, _ in self.edges].count(source) == 1:
                conv.weight = _array(torch.from_numpy(conv.weight) * scale[:, None, None, None])
                conv.bias = _array(torch.from_numpy(conv.bias) * scale + shift)
                del self.nodes[name]
                self.edges = [(source if a == name else a, b) for a, b in self.edges if b != name]
        return nir.NIRGraph(self.nodes, self.edges, metadata)


def windows(name: str, pool: nn.MaxPool2d | nn.AvgPool2d) -> tuple[int, int, int]:
    """(kernel, stride, padding) of a pool of squares. ExportError for another one."""
    numbers = [np.unique(np.asarray(value)) for value in (pool.kernel_size, pool.stride, pool.padding)]
    usual = {"ceil_mode": False, "dilation": 1, "count_include_pad": True, "divisor_override": None}
    if any(len(values) > 1 for values in numbers) or any(getattr(pool, key, value) != value for key, value in usual.items()):
        raise ExportError(f"{name} is {pool}: NIR has pools of whole squares, that count their padding")
    return int(numbers[0][0]), int(numbers[1][0]), int(numbers[2][0])


def _numbers(layer: nn.Conv2d | nn.Linear, factor: float) -> tuple[Tensor, Tensor]:
    """(weight * ``factor``, bias) in float64."""
    weight = layer.weight.detach().double() * factor
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.float().cpu().numpy())
