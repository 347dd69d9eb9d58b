"""Spikes and membranes of every neuron of a network, step by step.

Shapes: T steps, B batch.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gee_core.evaluation.counting import Layer
from gee_core.evaluation.energy import check_neurons, present
from gee_core.genome.copying import as_written
from gee_core.model.base import is_neuron, takes_all_steps
from gee_core.training.loop import for_inference


class Recorded(NamedTuple):
    """What the neurons of one module did on a batch."""

    spikes: Tensor
    """(T, B, …). Of ``ILIF`` integers."""
    membranes: Tensor | None
    """(T, B, …), after the reset of every step. None of neurons that keep no membrane potential ``v``."""
    layer: str
    """The name of the layer whose output they read, as ``measure_energy`` has it."""


@torch.no_grad()
def record(net: nn.Module, x: Tensor, *, steps: int | None = None, time_first: bool = False) -> dict[str, Recorded]:
    """The spikes and membranes of all neurons of ``net`` on one batch. Their mean is the firing rate.

    Works on any network of SpikingJelly neurons, or of ``LIF``. Runs a copy of ``net``, as ``measure_energy`` does.

    Args:
        net: the network, which is not changed.
        x: a batch, given to the network as ``measure_energy`` gives it.
        steps: as in ``measure_energy``.
        time_first: as in ``measure_energy``.

    Returns:
        A ``Recorded`` by the name of the module, in order of execution. A module that runs several times has its last run.

    Raises:
        InputError: the network has no neurons, or cannot be copied.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> [(name, neurons.spikes.shape) for name, neurons in gee_core.record(net, torch.rand(2, 3, 32, 32)).items()][0]
        ('stem.norm_lif.lif', torch.Size([4, 2, 16, 32, 32]))
    """
    check_neurons(net)
    plain, layers, outputs = for_inference(net), [""], dict[str, list[Tensor]]()
    neurons = {name: module for name, module in plain.named_modules() if is_neuron(module)}
    read = dict[str, str]()

    def see(name: str, module: nn.Module, _: object, output: Tensor | tuple) -> None:
        if name not in neurons:
            layers.append(name)
        else:
            read[name] = layers[-1]
            outputs.setdefault(name, []).append(output if isinstance(output, Tensor) else output[0])

    for name, module in plain.named_modules():
        if name in neurons or isinstance(module, Layer):
            module.register_forward_hook(partial(see, name))
        if hasattr(module, "store_v_seq"):
            module.store_v_seq = True
    with as_written(plain):
        present(plain, x, steps, time_first)
    found = {}
    for name, parts in outputs.items():
        spikes = parts[-1] if takes_all_steps(neurons[name]) else torch.stack(parts)
        membranes = getattr(neurons[name], "v_seq", None)
        found[name] = Recorded(spikes if membranes is None else spikes.reshape(membranes.shape), membranes, read[name])
    return found
