"""A trained network as a graph of the Neuromorphic Intermediate Representation (NIR), for simulators and chips.

The graph takes the same normalised image at every step, or a frame of events, and puts out o_t. The logits are the mean of o
over the steps. Its nodes have the names of the network's modules: ``body.0.norm_lif.lif`` are the neurons of
``net.body[0].norm_lif.lif``. Its file is HDF5, as the package ``nir`` writes it. Nothing in it is executed.

Shapes: C channels, H W space, K classes.
"""

import io
import math
from pathlib import Path
from typing import Any

import nir
import numpy as np
from nir.serialization import read_version
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.layer import Dropout as StepModeDropout
from torch import fx, nn

from gee_core.errors import ExportError, InputError, in_short
from gee_core.export.nir_nodes import DT, GraphBuilder, Signal, windows
from gee_core.genome.copying import check_values
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork, check_unwrapped, image_shape
from gee_core.model.layers import PreActivationBlock, ResidualStream, StepDropout
from gee_core.model.network import TableNetwork
from gee_core.model.own import OwnNetwork
from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF
from gee_core.storage.atomic_files import write_atomically

POOLS = ("sum", "avg")


def to_nir(net: nn.Module, in_channels: int | None = None, image_size: int | None = None, pool: str = "sum") -> nir.NIRGraph:
    """The NIR graph of ``net``, genes decoded and batch norm folded: (C, H, W) → (K,) at every step. ``net`` is not changed.

    Its metadata are ``T``, the number of steps where ``net`` says it, and ``dt``, the seconds of a step on which its time
    constants are based. It consists of ``Conv2d``, ``LIF``, ``SumPool2d``, ``AvgPool2d``, ``Flatten`` and ``Affine``.

    Args:
        net: a network of ``build_network``, or any whose ``forward`` calls layers one after another or adds their outputs.
        in_channels: C, None for the channels that the network was built for.
        image_size: H and W, None likewise.
        pool: the node of pools. ``sum``: ``SumPool2d``, the 1/k² of a mean in the next weights. SpikingJelly (single-step),
            norse and snnTorch read it. ``avg``: ``AvgPool2d``, which SpikingJelly's multi-step mode reads too, and norse does
            not. Pools with padding are ``AvgPool2d`` in either case, because no reader heeds that of a ``SumPool2d``.

    Returns:
        The graph.

    Raises:
        ExportError: NIR cannot express the network: another layer, soft reset, a max pool of values that are no spikes.
        InputError: a size is neither given nor known.
        ValueError: ``pool`` is unknown, a size is below 1, or the network takes other images.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125, pool="avg")
        >>> type(gee_core.to_nir(net)).__name__
        'NIRGraph'
    """
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    check_unwrapped(net)
    check_values(net)
    plain = decode(net)
    graph = GraphBuilder(image_shape(net, in_channels, image_size), pool)
    if isinstance(plain, SpikingNetwork) and any(isinstance(module, ILIF) for module in plain.modules()):
        problem = "{argument} = ilif: NIR has no neurons that fire integers"
        raise ExportError(problem, "set {argument} to lif and train the network anew, or take its ONNX file", "neuron")
    x = _table(graph, plain) if isinstance(plain, TableNetwork) else _traced(graph, graph.input, plain)
    T = next((module.T for module in plain.modules() if hasattr(module, "T")), None)
    built = graph.build(x, ({"T": T} if T else {}) | {"dt": DT})
    if name := not_finite(built):
        raise ExportError(f"{name} has weights that are not finite")
    return built


def not_finite(graph: nir.NIRGraph) -> str | None:
    """The name of a node with a number that is not finite, if there is one."""
    for name, node in graph.nodes.items():
        numbers = [value for value in vars(node).values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        if not all(np.isfinite(values).all() for values in numbers):
            return name
    return None


def _table(graph: GraphBuilder, net: TableNetwork) -> Signal:
    stem, norm = net.stem, None
    x = graph.conv("stem.conv", graph.input, stem.conv, None if stem.norm_lif is None else stem.norm_lif.norm)
    if stem.norm_lif is not None:
        x = graph.lif("stem.norm_lif.lif", x, stem.norm_lif.lif)
    x = _layer(graph, "stem.pool", x, stem.pool)
    if isinstance(net.body, ResidualStream):
        x, norm = _residual_stream(graph, x, net.body), net.body.norm
    else:
        x = _traced(graph, x, net.body, "body.")
    x = graph.flatten("flatten", _layer(graph, "pool", x, net.pool))
    for i, layer in enumerate(net.head):
        if isinstance(layer, nn.Linear):
            x, norm = graph.linear(f"head.{i}", x, layer, norm), None
        else:
            x = _layer(graph, f"head.{i}", x, layer)
    return x


class _Layers(fx.Tracer):
    """Follows the code of a network to its layers: neurons, and the modules of the three libraries that have no parts."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether ``m`` is a layer."""
        known = type(m).forward.__module__.partition(".")[0] in ("torch", "spikingjelly", "gee_core")
        return isinstance(m, neuron.BaseNode | NormLIF) or (known and not isinstance(m, nn.Sequential) and not [*m.children()])


def _traced(graph: GraphBuilder, x: Signal, net: nn.Module, prefix: str = "") -> Signal:
    """What the code of ``net`` makes of ``x`` at one step."""
    if isinstance(net, OwnNetwork):
        net, prefix = net.net, "net."
    try:
        nodes = list(_Layers().trace(net).nodes)
    except Exception as error:  # of the user's code, which runs on stand-ins
        problem = f"{type(net).__name__}: torch.fx cannot trace it ({in_short(error)})"
        raise ExportError(problem, "let its forward call one layer after another, without conditions on values") from None
    layers = {node: net.get_submodule(node.target) for node in nodes if node.op == "call_module"}
    signals = {nodes[0]: x}
    for node in nodes[1:]:
        sources, layer, name = node.all_input_nodes, layers.get(node), f"{prefix}{node.target}"
        x = signals[sources[0]] if sources else graph.input
        match layer:
            case None:
                x = _function(graph, node, [signals[source] for source in sources])
            case nn.Conv2d():
                after, *others = node.users
                norm = layers.get(after) if not others and after.all_input_nodes[0] is node else None
                norm = norm.norm if isinstance(norm, NormLIF) else norm
                x = graph.conv(name, x, layer, norm if isinstance(norm, nn.BatchNorm2d) else None)
            case nn.BatchNorm2d() | NormLIF():
                if not isinstance(layers.get(sources[0]), nn.Conv2d) or len(sources[0].users) > 1:
                    x = graph.norm(name, x, getattr(layer, "norm", layer))
                if isinstance(layer, NormLIF):
                    x = x if len(sources) == 1 else x + signals[sources[1]]
                    x = graph.lif(f"{name}.lif", x, layer.lif)
            case _:
                x = _layer(graph, name, x, layer)
        signals[node] = x
    return x


def _function(graph: GraphBuilder, node: fx.Node, inputs: list[Signal]) -> Signal:
    """A function or method in the code of a network: one that does nothing within a step, a flattening, or a sum."""
    name = getattr(node.target, "__name__", node.target)
    match name, *node.args[1:], *node.kwargs.values():
        case ["output"] if len(inputs) == 1:
            return inputs[0]
        case ["unflatten", 0, _] | ["flatten", 0, 1]:
            return inputs[0]
        case ["repeat", _, *ones] if set(ones) == {1}:
            return inputs[0]
        case ["flatten", 1 | 2 | -3] | ["flatten", 1 | 2 | -3, -1]:
            return graph.flatten(node.name, inputs[0])
        case ["add" | "iadd", _] if len(inputs) == 2:
            return inputs[0] + inputs[1]
    raise ExportError(f"{node.name}: NIR has no node for {name}")


def _layer(graph: GraphBuilder, name: str, x: Signal, layer: nn.Module) -> Signal:
    match layer:
        case StepDropout() | nn.Identity() | nn.Dropout() | StepModeDropout():
            return x
        case nn.MaxPool2d():
            return graph.max_pool(name, x, layer)
        case nn.AvgPool2d():
            return graph.avg_pool(name, x, *windows(name, layer))
        case nn.AdaptiveAvgPool2d():
            return _adaptive(graph, name, x, layer)
        case nn.Flatten():
            return graph.flatten(name, x)
        case nn.Linear():
            return graph.linear(name, x, layer)
        case neuron.LIFNode() if type(layer) in (LIF, neuron.LIFNode):
            return graph.lif(name, x, layer)
    raise ExportError(f"{name}: NIR has no node for {type(layer).__name__}")


def _residual_stream(graph: GraphBuilder, x: Signal, body: ResidualStream) -> Signal:
    """The stream after the last block. The batch norm after it is left to the head."""
    blocks: Any = body.blocks
    for i, block in enumerate(blocks):
        assert isinstance(block, PreActivationBlock)
        name = f"body.blocks.{i}"
        # one node, since the rounding of sums of three or more depends on their order
        stream = graph.avg_pool(f"{name}.sum", x) if len(x.sources) > 1 else x
        y = graph.norm(f"{name}.norm_lif1.norm", stream, block.norm_lif1.norm)
        y = graph.lif(f"{name}.norm_lif1.lif", y, block.norm_lif1.lif)
        y = graph.conv(f"{name}.conv1", y, block.conv1, block.norm_lif2.norm)
        y = graph.lif(f"{name}.norm_lif2.lif", y, block.norm_lif2.lif)
        y = graph.conv(f"{name}.conv2", y, block.conv2)
        if block.shortcut is not None:
            stream = graph.norm(f"{name}.shortcut.norm_lif.norm", stream, block.shortcut.norm_lif.norm)
            stream = graph.lif(f"{name}.shortcut.norm_lif.lif", stream, block.shortcut.norm_lif.lif)
            stream = graph.conv(f"{name}.shortcut.conv", stream, block.shortcut.conv)
        x = y + stream
    return x


def _adaptive(graph: GraphBuilder, name: str, x: Signal, pool: nn.AdaptiveAvgPool2d) -> Signal:
    sides = {*pool.output_size} if isinstance(pool.output_size, tuple) else {pool.output_size}
    side, size = sides.pop(), x.shape[1]
    # the windows are all alike where side is 1 or 2
    if sides or x.shape[1:] != (size, size) or (size % side and side > 2) or size < side:
        raise ExportError(f"{name} makes {pool.output_size} of maps of {x.shape[1:]}: NIR has pools with equal windows")
    kernel = math.ceil(size / side)
    return graph.avg_pool(name, x, kernel, size // side) if kernel > 1 else x


def write_nir(path: str | Path, graph: nir.NIRGraph) -> None:
    """Write ``graph`` to ``path``: all of it, or nothing. Equal graphs give equal bytes.

    Args:
        path: the file, by convention ``….nir``.
        graph: the graph of ``to_nir``.

    Raises:
        InputError: the file cannot be written.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125, pool="avg")
        >>> gee_core.write_nir("net.nir", gee_core.to_nir(net))
    """
    file = io.BytesIO()
    nir.write(file, graph)
    write_atomically(Path(path), file.getvalue())


def read_nir(path: str | Path) -> nir.NIRGraph:
    """The graph in a file, its shapes checked.

    Args:
        path: a file of ``write_nir`` or of another program.

    Returns:
        The graph.

    Raises:
        InputError: the file is missing, damaged or of another major version of NIR, or a number in it is not finite.

    Examples:
        >>> type(gee_core.read_nir("net.nir")).__name__
        'NIRGraph'
    """
    remedy = "write it again with gee_core.write_nir, or name another file"
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file", "name a file that gee_core.write_nir wrote")
    try:
        version = read_version(path)
        if version.partition(".")[0] != nir.version.partition(".")[0]:
            raise InputError(f"{path}: is of NIR {version[:20]!r}, and the installed nir is {nir.version}", remedy)
        graph = nir.read(path)
    except InputError:
        raise
    except Exception as error:  # of h5py and nir, which check little and have no error of their own
        raise InputError(f"{path}: cannot be read as NIR ({type(error).__name__}: {in_short(error)})", remedy) from None
    if name := not_finite(graph):
        raise InputError(f"{path}: a number of node {name} is not finite", remedy)
    return graph
