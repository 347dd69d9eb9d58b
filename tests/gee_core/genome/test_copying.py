"""Networks that cannot be copied, and weights that cannot be assigned."""

import copy
import threading

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn.utils import parametrize, prune

from gee_core.errors import InputError
from gee_core.evaluation.energy import measure_energy
from gee_core.genome.encoding import decode, encode

X = torch.ones(2, 1, 6, 6)


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), neuron.IFNode(), nn.Conv2d(4, 4, 3))


def test_a_network_that_cannot_be_copied_is_refused_with_the_way_out(net, monkeypatch):
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    wrapped = nn.parallel.DistributedDataParallel(net)
    wrapped.module = net
    with pytest.raises(InputError, match=r"wrapped in DistributedDataParallel: give its \.module, and wrap what comes back"):
        measure_energy(wrapped, X)
    net.lock = threading.Lock()
    with pytest.raises(InputError, match=r"cannot be copied \(cannot pickle .*keep loggers and files out"):
        encode(net, 2, example=X)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got <class"):
        decode(nn.Conv2d)


@pytest.mark.parametrize(
    "assign",
    [
        lambda conv: setattr(conv, "weight", nn.Parameter(torch.ones_like(conv.weight))),
        lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
    ],
    ids=["parameter", "pruning"],
)
def test_an_encoded_weight_takes_no_value_in_silence(assign, net):
    encoded = encode(net, 2, example=X)
    for network in (encoded, copy.deepcopy(encoded)):
        before = network[2].weight.detach().clone()
        with pytest.raises((TypeError, KeyError)):
            assign(network[2])
        assert torch.equal(network[2].weight, before) and before.any()


def test_genes_that_torch_removed_one_by_one_are_named_with_the_way_out():
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3) for _ in range(3)))
    encoded = encode(net, 2, convs=list(net))
    parametrize.remove_parametrizations(encoded[1], "weight")
    for work in (lambda net: net[2].weight, decode):
        with pytest.raises(InputError, match=r"has no genes any more, .*: use gee_core\.decode, on the network as it was"):
            work(encoded)
