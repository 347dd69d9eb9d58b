"""SpikingJelly's own counters, to stand beside ours."""

from collections.abc import Iterable

import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gee_core.evaluation.energy import present
from gee_core.genome.encoding import decode
from gee_core.snn.neurons import is_neuron


def spikingjelly_counts(net: nn.Module, batches: Iterable[Tensor], steps: int | None) -> tuple[int, int]:
    """(multiply-accumulates, synaptic operations) of a decoded copy of ``net`` on ``batches`` (B, …), in all.

    What happens inside batch norm and neurons, which are free in Eq. 17, is left out.
    """
    plain = decode(net).eval()
    free = [_BatchNorm, *{type(module) for module in plain.modules() if is_neuron(module)}]
    macs, synops = MACCounter(extra_ignore_modules=free), SynOpCounter(extra_ignore_modules=free)
    with torch.no_grad(), DispatchCounterMode([macs, synops]):
        for x in batches:
            present(plain, x, steps)
    return macs.get_total(), synops.get_total()
