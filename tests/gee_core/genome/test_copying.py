"""Networks that cannot be copied, and weights that cannot be assigned."""

import copy
import threading

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, parametrize, prune

from gee_core.errors import InputError
from gee_core.evaluation.energy import measure_energy
from gee_core.genome.encoding import decode, encode, genome_of

X = torch.ones(2, 1, 6, 6)


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), neuron.IFNode(), nn.Conv2d(4, 4, 3))


def test_a_network_that_holds_a_lock_is_refused_with_the_way_out(net):
    net.lock = threading.Lock()
    with pytest.raises(InputError, match=r"cannot be copied \(cannot pickle '_thread.lock' object\): keep what"):
        encode(net, 2, example=X)


def test_an_encoded_weight_takes_no_value_and_its_genes_and_copies_stay_as_they_are(net):
    encoded = encode(net, 2, example=X)
    for network in (encoded, copy.deepcopy(encoded)):
        before = network[2].weight.detach().clone()
        for assign in (
            lambda conv: setattr(conv, "weight", torch.ones_like(conv.weight)),
            lambda conv: setattr(conv, "weight", nn.Parameter(torch.ones_like(conv.weight))),
            lambda conv: fuse_conv_bn_eval(conv.eval(), nn.BatchNorm2d(4).eval()),
            lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
        ):
            with pytest.raises(TypeError, match="is computed from its genes: change those, or decode the network first"):
                assign(network[2])
        network.load_state_dict(encoded.state_dict())
        assert torch.equal(network[2].weight, before)
        assert before.any()
        assert genome_of(network) is not None


def test_a_network_in_a_wrapper_that_reduces_gradients_is_refused(net, monkeypatch):
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    wrapped = nn.parallel.DistributedDataParallel(net)
    wrapped.module = net
    with pytest.raises(InputError, match=r"wrapped in DistributedDataParallel: give its \.module, and wrap what comes back"):
        measure_energy(wrapped, X)


def test_a_parameter_that_a_hook_computes_is_named(net):
    prune.l1_unstructured(net[2], "bias", 0.5)
    with pytest.raises(InputError, match=r"2\.bias is computed by a hook: make it permanent \(prune"):
        decode(net)
    encoded = encode(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)), 2, example=X)
    prune.l1_unstructured(encoded.genome, "O", 0.5)
    with pytest.raises(InputError, match=r"genome\.O is computed by a hook"):
        decode(encoded)


def test_an_encoded_convolution_takes_a_bias_and_one_that_is_decoded_a_weight(net):
    encoded = encode(net, 2, example=X)
    encoded[2].bias = nn.Parameter(torch.ones(4))
    assert torch.equal(encoded[2].bias, torch.ones(4))
    encoded[2].weight_scale = nn.Parameter(torch.ones(4))  # of somebody's own
    assert "2.weight_scale" in encoded.state_dict()
    other = copy.deepcopy(encoded)
    other[2].__class__ = type("Sharded", (type(other[2]),), {})  # as FSDP makes them
    other[2].bias = nn.Parameter(torch.zeros(4))
    assert torch.equal(other[2].bias, torch.zeros(4))
    plain = decode(encoded)
    plain[2].weight = nn.Parameter(torch.zeros(4, 4, 3, 3))
    assert torch.equal(plain(X), torch.ones_like(plain(X)))


def test_genes_that_torch_removed_one_by_one_are_named_with_the_way_out():
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3) for _ in range(3)))
    encoded = encode(net, 2, convs=list(net))
    parametrize.remove_parametrizations(encoded[1], "weight")
    for work in (lambda net: net[2].weight, decode, lambda net: net.genome.encodings()):
        with pytest.raises(InputError, match=r"has no genes any more, .*: use gee_core\.decode, on the network as it was"):
            work(encoded)


def test_a_tensor_that_holds_the_graph_of_the_last_run_is_named():
    class Leaky(nn.Module):
        mem = 0.0

        def forward(self, x):
            self.mem = 0.5 * self.mem + x
            return self.mem

    net = nn.Sequential(nn.Conv2d(1, 4, 3), Leaky(), nn.Conv2d(4, 4, 3))
    net(X)
    with pytest.raises(InputError, match=r"1\.mem holds the graph of the last run: reset or detach it first"):
        encode(net, 2, example=X)
    net[1].mem = 0.0
    assert encode(net, 2, example=X)[1].mem == 0.0
