"""Integers first: I-LIF neurons of one step in place of a network's LIF neurons, which train in the last epochs alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF

HALF_RATE = 0.7
"""Current, over that at which a LIF neuron fires at every step, at which it fires at every other (between 2/3 and 1, τ = 2)."""


@contextmanager
def with_integers(net: nn.Module, levels: int | None) -> Iterator[None]:
    """Context in which ``net`` fires integers 0 … ``levels`` in place of spikes. None leaves it as it is."""
    if levels is None:
        yield
        return
    places = [
        (parent, name, child) for parent in net.modules() for name, child in parent.named_children() if type(child) is LIF
    ]
    for parent, name, lif in places:
        setattr(parent, name, ILIF(lif.T, levels, v_threshold=lif.v_threshold, detach_reset=lif.detach_reset))
    try:
        yield
    finally:
        for parent, name, lif in places:
            setattr(parent, name, lif)


@torch.no_grad()
def carry_scales(net: nn.Module, levels: int) -> None:
    """Scale batch norms, in place, so that what made I-LIF fire ``levels`` / 2 makes LIF fire at every other step."""
    for layer in net.modules():
        if isinstance(layer, NormLIF):
            factor = HALF_RATE * (layer.lif.tau if layer.lif.decay_input else 1.0) / (levels / 2)
            layer.norm.weight.mul_(factor)
            layer.norm.bias.mul_(factor)
