"""A NIR graph read back by SpikingJelly, against the network that it was made of.

Shapes: T steps, B batch, C channels, H W space, K classes. Steps are folded into the batch, step-major: (T*B, ...).
"""

from collections import defaultdict

import nir
import torch
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.nir_exchange import import_from_nir
from torch import Tensor, nn

from gee_core.export.nir_nodes import DT
from gee_core.genome.copying import without_logs
from gee_core.genome.encoding import decode


@torch.no_grad()
def nir_agreement(net: nn.Module, graph: nir.NIRGraph, images: Tensor) -> tuple[float, float, dict[str, float]]:
    """How far ``net`` and SpikingJelly's reading of its ``graph`` agree on ``images`` (B, C, H, W), or frames (T, B, …).

    The share of images in the same class; of the spikes that one or the other fires, the share that both fire, at one neuron,
    step and image (1 if none fires); and that share of every layer of neurons, by its name in the network.
    """
    dim = images.ndim - 4  # that of B
    plain = decode(net).cpu().float().eval()
    names = [name for name, module in plain.named_modules() if isinstance(module, neuron.BaseNode)]
    expected = _recorded(plain, {name: name for name in names})
    simulator = import_from_nir(graph, dt=DT).eval()
    read = _recorded(simulator, {name: name.replace(".", "_") for name in names})  # as nirtorch names its modules
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


def _recorded(net: nn.Module, modules: dict[str, str]) -> dict[str, list[Tensor]]:
    """Where every call of a module of ``net`` will leave its spikes, by the module's key."""
    spikes: dict[str, list[Tensor]] = defaultdict(list)

    for key, name in modules.items():
        net.get_submodule(name).register_forward_hook(
            lambda _, __, output, key=key: spikes[key].append((output[0] if isinstance(output, tuple) else output) > 0)
        )
    return spikes
