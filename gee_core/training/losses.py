"""What training minimises: the loss of the outputs, and a penalty on synaptic operations.

The penalty counts the spikes of a layer by their fan-out.

    R = Σ_l FL_l·fr_l / Σ_l FL_l    over all convolutions l after the stem

FL_l are the multiply-accumulates of a layer and fr_l is the mean of its input, as in Eq. 17, whose energy of these layers is
therefore proportional to R.

Shapes: T steps, B batch, K classes.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.model.base import SpikingNetwork
from gee_core.snn.dynamics import wide


def cross_entropy(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """L_CE of the logits, which are the mean of o over the steps."""
    return F.cross_entropy(o_TBK.float().mean(0), labels_B, label_smoothing=label_smoothing)


def tet(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0, lam: float = 0.0, phi: float = 0.0) -> Tensor:
    """(1 - λ)·1/T·Σ_t L_CE(o_t, y) + λ·1/T·Σ_t MSE(o_t, φ): every step has to be right on its own.

    Source: Deng et al., Temporal Efficient Training of Spiking Neural Network, ICLR 2022; φ is V_th there, and
    MSE the mean over batch and classes.
    """
    o_TBK = o_TBK.float()
    every_step = F.cross_entropy(o_TBK.flatten(0, 1), labels_B.repeat(len(o_TBK)), label_smoothing=label_smoothing)
    if lam == 0:
        return every_step
    return (1 - lam) * every_step + lam * (o_TBK - phi).square().mean()


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
