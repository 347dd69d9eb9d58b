"""A trained network of the table as a graph of the Neuromorphic Intermediate Representation (NIR), for simulators and chips.

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
from torch import nn

from gee_core.errors import ExportError, InputError, in_short
from gee_core.export.nir_nodes import DT, GraphBuilder, Signal
from gee_core.genome.copying import check_values
from gee_core.genome.encoding import decode
from gee_core.model.base import check_unwrapped, image_shape
from gee_core.model.layers import BasicBlock, ConvLayer, PreActivationBlock, ResidualStream, StepDropout
from gee_core.model.network import TableNetwork
from gee_core.snn.lif import ILIF, LIF
from gee_core.storage.atomic_files import write_atomically

POOLS = ("sum", "avg")


def to_nir(net: nn.Module, in_channels: int | None = None, image_size: int | None = None, pool: str = "sum") -> nir.NIRGraph:
    """The NIR graph of ``net``, genes decoded and batch norm folded: (C, H, W) → (K,) at every step. ``net`` is not changed.

    Its metadata are ``T``, the number of steps, and ``dt``, the seconds of a step on which its time constants are based. It
    consists of ``Conv2d``, ``LIF``, ``SumPool2d``, ``AvgPool2d``, ``Flatten`` and ``Affine``.

    Args:
        net: a network of ``build_network`` whose name is in ``NETWORKS``.
        in_channels: C, None for the channels that the network was built for.
        image_size: H and W, None likewise.
        pool: the node of pools. ``sum``: ``SumPool2d``, the 1/k² of a mean in the next weights. SpikingJelly (single-step),
            norse and snnTorch read it. ``avg``: ``AvgPool2d``, which SpikingJelly's multi-step mode reads too, and norse does
            not. Pools with padding are ``AvgPool2d`` in either case, because no reader heeds that of a ``SumPool2d``.

    Returns:
        The graph.

    Raises:
        ExportError: NIR cannot express the network: one of the user's own, soft reset, a max pool of values that are no spikes.
        InputError: a size is neither given nor known.
        ValueError: ``pool`` is unknown, a size is below 1, or the network takes images of other channels.

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
    if not isinstance(plain, TableNetwork):
        name = getattr(net, "built_with", {}).get("name") or type(net).__name__
        reason = "only the layers of the table's networks can be told from their modules"
        raise ExportError(f"{name} cannot be expressed in NIR: {reason}", "add it to gee_core/zoo.py if it fits there")
    shape = image_shape(net, in_channels, image_size)
    if shape[0] != plain.stem.conv.in_channels:
        raise ValueError(f"in_channels = {shape[0]}, but the network takes images of {plain.stem.conv.in_channels}")
    if any(isinstance(module, ILIF) for module in plain.modules()):
        problem = "{argument} = ilif: NIR has no neurons that fire integers"
        raise ExportError(problem, "set {argument} to lif and train the network anew, or take its ONNX file", "neuron")
    graph = GraphBuilder(shape, pool)
    tau = next(module.tau for module in plain.modules() if isinstance(module, LIF))  # the same for all
    x = _stem(graph, plain, tau)
    if isinstance(plain.body, ResidualStream):
        x = _residual_stream(graph, x, plain.body)
    else:
        for i, layer in enumerate(plain.body):
            x = _layer(graph, f"body.{i}", x, layer, tau)
    x = _head(graph, x, plain)
    built = graph.build(x, {"T": plain.T, "dt": DT})
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


def _stem(graph: GraphBuilder, net: TableNetwork, tau: float) -> Signal:
    stem = net.stem
    x = graph.conv("stem.conv", graph.input, stem.conv, None if stem.norm_lif is None else stem.norm_lif.norm)
    if stem.norm_lif is not None:
        x = graph.lif("stem.norm_lif.lif", x, stem.norm_lif.lif)
    return graph.max_pool("stem.pool", x, stem.pool, tau) if isinstance(stem.pool, nn.MaxPool2d) else x


def _layer(graph: GraphBuilder, name: str, x: Signal, layer: nn.Module, tau: float) -> Signal:
    match layer:
        case StepDropout():
            return x
        case nn.MaxPool2d():
            return graph.max_pool(name, x, layer, tau)
        case nn.AvgPool2d():
            return graph.avg_pool(name, x, int(layer.kernel_size), int(layer.stride))  # type: ignore[arg-type]
        case ConvLayer():
            x = graph.conv(f"{name}.conv", x, layer.conv, layer.norm_lif.norm)
            return graph.lif(f"{name}.norm_lif.lif", x, layer.norm_lif.lif)
        case BasicBlock():
            y = graph.conv(f"{name}.conv1", x, layer.conv1, layer.norm_lif1.norm)
            y = graph.lif(f"{name}.norm_lif1.lif", y, layer.norm_lif1.lif)
            y = graph.conv(f"{name}.conv2", y, layer.conv2, layer.norm_lif2.norm)
            if isinstance(layer.shortcut, nn.Conv2d):
                x = graph.conv(f"{name}.shortcut", x, layer.shortcut)
            return graph.lif(f"{name}.norm_lif2.lif", y + x, layer.norm_lif2.lif)
    raise AssertionError(type(layer))


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


def _head(graph: GraphBuilder, x: Signal, net: TableNetwork) -> Signal:
    side, size = int(net.pool.output_size), x.shape[1]  # type: ignore[arg-type]
    kernel, stride = math.ceil(size / side), size // side  # the windows of an adaptive pool are all alike where side is 1 or 2
    assert side <= 2
    if size < side:
        raise ExportError(f"the last feature maps have {size} pixels, which NIR cannot enlarge to {side}", "take larger images")
    if kernel > 1:
        x = graph.avg_pool("pool", x, kernel, stride)
    x = graph.flatten("flatten", x)
    norm = net.body.norm if isinstance(net.body, ResidualStream) else None
    for i, layer in enumerate(net.head):
        if isinstance(layer, LIF):
            x = graph.lif(f"head.{i}", x, layer)
        else:
            assert isinstance(layer, nn.Linear)
            x, norm = graph.linear(f"head.{i}", x, layer, norm), None
    return x


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
