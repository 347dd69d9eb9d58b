"""A trained network as a graph of the Neuromorphic Intermediate Representation (NIR), for simulators and chips.

The graph takes the same normalised image at every step, or a frame of events, and puts out o_t. The logits are the mean of o
over the steps. Its nodes have the names of the network's modules: ``body.0.norm_lif.lif`` are the neurons of
``net.body[0].norm_lif.lif``. Its file is HDF5, as the package ``nir`` writes it. Nothing in it is executed.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import io
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nir
import numpy as np
import torch
from nir.serialization import read_version
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.layer import Dropout as StepModeDropout
from spikingjelly.activation_based.nir_exchange import import_from_nir
from torch import Tensor, nn

from gee_core.errors import ExportError, InputError, in_short
from gee_core.export.nir_nodes import DT, GraphBuilder, Signal, windows
from gee_core.genome.copying import check_values, without_logs
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork, check_unwrapped, image_shape
from gee_core.model.layers import StepDropout
from gee_core.snn.lif import ILIF
from gee_core.storage.atomic_files import write_atomically

POOLS = ("sum", "avg")


def to_nir(
    net: nn.Module, in_channels: int | Tensor | None = None, image_size: int | None = None, pool: str = "sum"
) -> nir.NIRGraph:
    """The NIR graph of ``net``, genes decoded and batch norm folded: (C, H, W) → (K,) at every step. ``net`` is not changed.

    Its metadata are ``T``, the number of steps where ``net`` says it, and ``dt``, the seconds of a step on which its time
    constants are based. It consists of ``Conv2d``, ``LIF``, ``IF``, ``SumPool2d``, ``AvgPool2d``, ``Flatten`` and ``Affine``.

    Args:
        net: a network of ``build_network``, or any whose ``forward`` calls layers one after another or adds their outputs.
        in_channels: C, None for the channels that the network was built for. Or an example, images (B, C, H, W) or frames
            (T, B, C, H, W), in place of both numbers: ``to_nir(net, x)``.
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
    plain = decode(net).eval()
    graph = GraphBuilder(image_shape(net, in_channels, image_size), pool)
    if isinstance(plain, SpikingNetwork) and any(isinstance(module, ILIF) for module in plain.modules()):
        remedy = "set it to lif and train the network anew, or take its ONNX file"
        raise ExportError("= ilif: NIR has no neurons that fire integers", remedy, ("neuron",))
    T = next(filter(None, (getattr(module, "T", None) for module in plain.modules())), None)
    for name, module in plain.named_modules():  # the code of any other module runs as it is written
        known = type(module).forward.__module__.partition(".")[0] in ("torch", "spikingjelly", "gee_core")
        parts = isinstance(module, nn.Sequential) or [*module.children()]
        if isinstance(module, neuron.BaseNode) or (known and not parts):
            module.forward = partial(_layer, graph, name or "net", module)
    try:
        built = graph.build(plain(graph.input), ({"T": T} if T else {}) | {"dt": DT})
    except InputError:
        raise
    except Exception as error:  # of the code of the network, which runs on a Signal
        problem = f"{type(net).__name__} cannot be expressed in NIR ({in_short(error)})"
        raise ExportError(problem, "let its forward call layers one after another, or add their outputs") from error
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


NODES: dict[type | tuple[type, ...], Callable[..., Signal]] = {
    (StepDropout, nn.Identity, nn.Dropout, StepModeDropout): lambda graph, name, x, layer: x,
    nn.Conv2d: GraphBuilder.conv,
    nn.BatchNorm2d: GraphBuilder.norm,
    neuron.BaseNode: GraphBuilder.neurons,
    nn.MaxPool2d: GraphBuilder.max_pool,
    nn.AvgPool2d: lambda graph, name, x, layer: graph.avg_pool(name, x, *windows(name, layer)),
    nn.AdaptiveAvgPool2d: GraphBuilder.adaptive_pool,
    nn.Flatten: lambda graph, name, x, layer: x.flatten(layer.start_dim, layer.end_dim, name),
    nn.Linear: GraphBuilder.linear,
}
"""What makes nodes of a layer, by its kind."""


def _layer(graph: GraphBuilder, name: str, layer: nn.Module, x: Signal) -> Signal:
    for kind, add in NODES.items():
        if isinstance(layer, kind):
            return add(graph, name, x, layer)
    raise ExportError(f"{name}: NIR has no node for {type(layer).__name__}")


@torch.no_grad()
def nir_agreement(net: nn.Module, graph: nir.NIRGraph, images: Tensor) -> tuple[float, float, dict[str, float]]:
    """How far ``net`` and SpikingJelly's reading of its ``graph`` agree on ``images`` (B, C, H, W), or frames (T, B, …).

    The share of images in the same class; of the spikes that one or the other fires, the share that both fire, at one neuron,
    step and image (1 if none fires); and that share of every layer of neurons, by its name in the network.
    """
    dim = images.ndim - 4  # that of B
    plain = decode(net).cpu().float().eval()
    names = [name for name, module in plain.named_modules() if isinstance(module, neuron.BaseNode)]
    expected = _record(plain, {name: name for name in names})
    simulator = import_from_nir(graph, dt=DT).eval()
    read = _record(simulator, {name: name.replace(".", "_") for name in names})  # as nirtorch names its modules
    same, both, either = 0, dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for batch in images.split(16, dim):  # all of whose spikes are kept
        o_TBK = plain(batch)
        outputs, state = [], None
        with without_logs("torch._library.triton"):  # SpikingJelly's first step asks for Triton, which CPUs have no use for
            for step in range(len(o_TBK)):
                o_BK, state = simulator(batch[step] if dim else batch, state)
                outputs.append(o_BK)
        same += int((torch.stack(outputs).mean(0).argmax(1) == o_TBK.mean(0).argmax(1)).sum())
        for name in names:
            a, b = (torch.cat(spikes.pop(name)).flatten() for spikes in (expected, read))
            both[name] += int((a & b).sum())
            either[name] += int((a | b).sum())
    layers = {name: both[name] / either[name] if either[name] else 1.0 for name in names}
    fired = sum(either.values())
    return same / images.shape[dim], sum(both.values()) / fired if fired else 1.0, layers


def _record(net: nn.Module, modules: dict[str, str]) -> dict[str, list[Tensor]]:
    """Where every call of a module of ``net`` will leave its spikes, by the module's key."""
    spikes: dict[str, list[Tensor]] = defaultdict(list)

    for key, name in modules.items():
        net.get_submodule(name).register_forward_hook(
            lambda _, __, output, key=key: spikes[key].append((output[0] if isinstance(output, tuple) else output) > 0)
        )
    return spikes


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
