"""The check of a NIR graph sees what differs."""

import copy
import functools

import numpy as np
import torch

from gee_core.export.nir_agreement import nir_agreement
from gee_core.export.to_nir import to_nir
from gee_core.model.network import build_network
from tests.gee_core.lively import awake


@functools.cache
def lively():
    return awake(build_network("cifarnet", 5, 1, 8, width=1 / 32, T=2), images(16))


def images(n):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def test_spikes_and_predictions_that_differ_are_counted():
    """With another bias in the graph the stem fires otherwise: the share is that of the two spike trains."""
    net, graph = lively(), to_nir(lively(), 1, 8)
    graph.nodes["head.0"].bias[0] += 1e6
    right = (net(images(8)).mean(0).argmax(1) == 0).float().mean().item()
    assert nir_agreement(net, graph, images(8))[:2] == (right, 1)
    other = copy.deepcopy(net)
    other.stem.norm_lif.norm.bias += 0.3
    graph.nodes["stem.conv"].bias += np.float32(0.3)
    _, spikes, layers = nir_agreement(net, graph, images(8))
    one, two = (network.stem(images(8)) > 0 for network in (net, other))
    assert 0 < layers["stem.norm_lif.lif"] == (one & two).sum().item() / (one | two).sum().item() < 1
    assert right < 1 and spikes < 1
