"""A penalty on synaptic operations, in which the spikes of a layer count by their fan-out.

    R = Σ_l FL_l·fr_l / Σ_l FL_l    over all convolutions l after the stem

FL_l are the multiply-accumulates of a layer and fr_l is the mean of its input, as in Eq. 17, whose energy of these layers is
therefore proportional to R.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from gee_core.model.base import SpikingNetwork
from gee_core.snn.dynamics import wide

Operations = list[tuple[Tensor, int]]
"""fr_l and FL_l, times images and steps, of each run of a layer."""


@contextmanager
def operations(net: nn.Module, wanted: bool) -> Iterator[Operations]:
    """Context in which the convolutions of ``net`` note their operations, if they are ``wanted``."""
    noted: Operations = []

    def note(conv: nn.Conv2d, args: tuple[Tensor], y: Tensor) -> None:
        noted.append((wide(args[0]).mean(), y.numel() * conv.in_channels // conv.groups * math.prod(conv.kernel_size)))

    with ExitStack() as hooks:
        if wanted:
            assert isinstance(net, SpikingNetwork)  # own networks are refused
            stem = net.conv_chain()[0]
            for module in net.modules():
                if isinstance(module, nn.Conv2d) and module is not stem:
                    hooks.callback(module.register_forward_hook(note).remove)
        yield noted


def mean_rate(noted: Operations) -> Tensor:
    """R of the runs that ``operations`` noted."""
    total = sum(macs for _, macs in noted)
    return sum((rate * (macs / total) for rate, macs in noted), start=noted[0][0].new_zeros(()))
