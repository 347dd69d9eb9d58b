"""The networks against SpikingJelly walking one step at a time, and the laws of ``build_network``."""

import copy

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from gee_core.checkpoint import load, save
from gee_core.genome.encoding import decode
from gee_core.model.network import build_network
from gee_core.snn.lif import LIF
from gee_core.zoo import NETWORKS
from tests.gee_core.lively import awake

TINY = {"width": 1 / 16, "image_size": 16, "num_classes": 5}
FORMS = {name: {} for name in NETWORKS} | {"resnet18 post": {"block": "post"}, "resnet34 post": {"block": "post"}}
FORMS |= {"cifarnet avg": {"pool": "avg"}}
EVERY_NETWORK = pytest.mark.parametrize("form", FORMS)


def name_and_form(form):
    """Arguments of ``build_network`` for a key of ``FORMS``."""
    return {"name": form.split()[0]} | FORMS[form]


def images(n=3, channels=3, size=16, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def wake_hidden_layer(net):
    """Scale the hidden layer, if any, so that its neurons fire: at initialisation they see averages and stay silent."""
    if isinstance(net.head[0], nn.Linear) and len(net.head) > 1:
        with torch.no_grad():
            net.head[0].weight.mul_(10)


def lively(name, n_genes=None, **settings):
    """A network in eval mode whose batch norms know its currents, so that its neurons fire."""
    net = build_network(name, **(TINY | settings), n_genes=n_genes)
    wake_hidden_layer(net)
    return awake(net, images(16, seed=9))


class OneStep(neuron.LIFNode):
    """SpikingJelly's stateful neuron in the place of ``LIF``, for one step per call."""

    T = 1


def one_step_at_a_time(net):
    """A copy of ``net`` that computes o_t in its t-th call, all memory in SpikingJelly's neurons."""
    walker = copy.deepcopy(net)
    for parent in list(walker.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, LIF):
                node = OneStep(tau=2.0, decay_input=True, v_threshold=0.5, v_reset=0.0, detach_reset=True)
                setattr(parent, child_name, node)
    walker.T = 1
    return walker.eval()


@EVERY_NETWORK
def test_the_output_equals_spikingjelly_shown_the_image_again_at_every_step(form):
    net, x = lively(**name_and_form(form), n_genes=6), images()
    walker = one_step_at_a_time(net)
    with torch.no_grad():
        out = net(x)
        expected = torch.cat([walker(x) for _ in range(4)])  # the stem is computed anew each time
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert (out[1:] - out[:-1]).abs().max() > 1e-3  # the steps differ, or their order would not matter
    assert (out[:, 0] - out[:, 1]).abs().max() > 1e-3  # and so do the images


@pytest.mark.parametrize(("name", "size", "channels"), [("cifarnet", 8, 1), ("vgg16", 64, 3), ("resnet19", 28, 1)])
def test_every_parameter_learns_at_every_image_size_and_channel_count(name, size, channels):
    net = build_network(name, 5, channels, size, n_genes=6, width=1 / 16)
    wake_hidden_layer(net)
    out = net(images(4, channels, size))
    assert out.shape == (4, 4, 5)
    out.square().sum().backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not silent


def test_weights_depend_on_the_seed_and_plain_ones_not_on_the_genes():
    torch.manual_seed(77)
    before = torch.get_rng_state()
    genetic = build_network("resnet18", **TINY, n_genes=6, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = (build_network("resnet18", **TINY, n_genes=6, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(genetic[key], again[key]) for key in genetic)
    drawn = [key for key in genetic if genetic[key].is_floating_point() and genetic[key].numel() > 1 and "norm" not in key]
    assert not any(torch.equal(genetic[key], other[key]) for key in drawn)
    plain = build_network("resnet18", **TINY, seed=3).state_dict()
    shared = set(plain) & set(genetic)
    assert {"stem.conv.weight", "head.0.weight", "head.2.bias"} <= shared
    assert all(torch.equal(plain[key], genetic[key]) for key in shared)
    assert sum(key.endswith("parametrizations.weight.original") for key in genetic) == len(plain) - len(shared)


@EVERY_NETWORK
def test_the_decoded_network_equals_the_genetic_one_in_output_and_shape_of_its_state(form):
    net, x = lively(**name_and_form(form), n_genes=6), images()
    plain = decode(net)
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))
    fresh = build_network(**name_and_form(form), **TINY).state_dict()
    assert {key: value.shape for key, value in plain.state_dict().items()} == {k: v.shape for k, v in fresh.items()}


def test_its_weights_are_channels_last_and_the_layout_changes_no_result():
    net, x = lively("resnet18"), images()
    plain = decode(net)
    for network in (net, plain, build_network("resnet18", **TINY)):
        assert network.body.blocks[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    out = plain(x).detach()
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    torch.testing.assert_close(plain(x).detach(), out, rtol=1e-4, atol=1e-5)


REFUSED = [
    ({"name": "resnet50"}, "name = 'resnet50': unknown network: choose one of cifarnet"),
    ({"n_genes": 10**30}, "n_genes = 10.*: Input should be less than or equal to 10000"),
    ({"seed": None}, "seed = None: must be an int from"),
    ({"width": 1e300}, r"width = 1e\+300: Input should be less than or equal to 4"),
    ({"name": "vgg16", "block": "pre"}, "block = 'pre': vgg16 has no residual blocks: set it to None"),
    ({"tau": 1}, "tau = 1: Input should be greater than 1"),
    ({"neuron": "ilif", "levels": None}, "^neuron = ilif needs levels: set it to D"),
    ({"taus": 2}, "taus = 2: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_an_argument_out_of_range_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(**({"name": "resnet18"} | TINY | arguments))


def test_numpys_integers_build_a_network_that_can_be_saved(tmp_path):
    sizes = {name: np.int64(value) if isinstance(value, int) else value for name, value in TINY.items()}
    net = build_network("cifarnet", **sizes, T=np.int64(2), seed=np.int64(1))
    save(tmp_path / "net.safetensors", net)
    assert load(tmp_path / "net.safetensors").T == 2
