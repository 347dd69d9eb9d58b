"""A NIR graph read back by SpikingJelly, against the network that it was made of.

Shapes: T steps, B batch, C channels, H W space, K classes. Steps are folded into the batch, step-major: (T*B, ...).
"""

from dataclasses import dataclass
from typing import Any

import nir
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir
from torch import Tensor, nn

from gee_core.export.nir_nodes import DT
from gee_core.genome.encoding import decode
from gee_core.snn.lif import LIF


@dataclass(frozen=True)
class NirAgreement:
    """How far a simulator that read a graph agrees with the network in float32."""

    predictions: float
    """Share of the images that both sort into the same class."""
    spikes: float
    """Of the spikes that one or the other fires, the share that both fire: same neuron, step and image. 1 if none fires."""
    layers: dict[str, float]
    """``spikes`` of every layer of neurons, by its name in the network."""


@torch.no_grad()
def nir_agreement(net: nn.Module, graph: nir.NIRGraph, images: Tensor) -> NirAgreement:
    """Run ``net`` and SpikingJelly's reading of ``graph`` on ``images`` (B, C, H, W), normalised.

    Args:
        net: what ``to_nir`` was given.
        graph: what ``to_nir`` returned, or a file gave back.
        images: at least one.
    """
    plain = decode(net).cpu().float().eval()
    names = [name for name, module in plain.named_modules() if isinstance(module, LIF)]
    expected = _recorded(plain, {name: name for name in names})
    o_TBK = plain(images)
    simulator = import_from_nir(graph, dt=DT).eval()
    found = _recorded(simulator, {name: name.replace(".", "_") for name in names})  # as nirtorch names its modules
    outputs, state = [], None
    for _ in range(len(o_TBK)):
        o_BK, state = simulator(images, state)
        outputs.append(o_BK)
    counts = {name: _common(torch.cat(expected[name]), torch.cat(found[name])) for name in names}
    same = torch.stack(outputs).mean(0).argmax(1) == o_TBK.mean(0).argmax(1)
    both, either = (sum(count[i] for count in counts.values()) for i in (0, 1))
    layers = {name: share(*count) for name, count in counts.items()}
    return NirAgreement(predictions=same.float().mean().item(), spikes=share(both, either), layers=layers)


def share(part: int, whole: int) -> float:
    """``part / whole``, 1 of nothing."""
    return part / whole if whole else 1.0


def _recorded(net: nn.Module, modules: dict[str, str]) -> dict[str, list[Tensor]]:
    """Lists that will hold, by the key, the spikes of every call of the module of ``net``."""
    spikes: dict[str, list[Tensor]] = {key: [] for key in modules}

    def record(key: str, output: Any) -> None:
        spikes[key].append((output[0] if isinstance(output, tuple) else output) > 0)

    for key, name in modules.items():
        net.get_submodule(name).register_forward_hook(lambda _, __, output, key=key: record(key, output))
    return spikes


def _common(a: Tensor, b: Tensor) -> tuple[int, int]:
    """(spikes of both, spikes of either)."""
    return int((a & b).sum()), int((a | b).sum())
