"""The binary form of a network of integers: the same logits, only 0 and 1 as spikes, and the same events and energy."""

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

import gee_core
from gee_core.errors import InputError
from gee_core.snn.lif import ILIF

INTEGERS = {"neuron": "ilif", "T": 2, "levels": 3}


def lively(name, n_genes=4, **settings):
    """A network whose batch norms have seen images, in float64, where the order of a sum moves no integer."""
    net = gee_core.build_network(name, 10, 3, 16, n_genes, 0.0625, **INTEGERS | settings).double()
    for _ in range(3):
        net(images())
    return net.eval()


def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cifarnet", {"T": 1, "levels": 4}),
        ("cifarnet", {"pool": "avg", "tau": 3.0, "v_threshold": 0.6}),
        ("vgg16", {}),
        ("resnet18", {"block": "pre"}),
        ("resnet18", {"block": "post"}),
    ],
)
def test_the_binary_form_has_the_logits_the_events_and_the_energy_of_the_integers(name, settings):
    net, x = lively(name, **settings), images()
    binary = gee_core.to_binary(net)
    outputs = []
    for module in binary.modules():
        if isinstance(module, ILIF):
            module.register_forward_hook(lambda module, args, y: outputs.append(y))
    torch.testing.assert_close(binary(x), net(x), rtol=0, atol=1e-10)
    events = sum(y.sum().item() for y in outputs) / len(x)
    slots = net.T * (INTEGERS | settings)["levels"]
    assert all(set(y.unique().tolist()) <= {0.0, 1.0} for y in outputs)
    assert max(len(y) for y in outputs) == slots * len(x)
    integers, slots_of = (gee_core.measure_energy(one, x) for one in (net, binary))
    assert integers.spikes_per_image == slots_of.spikes_per_image == events
    assert not slots_of.not_counted
    for one, other in zip(integers.layers[1:], slots_of.layers[1:], strict=True):
        if other.binary:
            assert (
                one.counts and one.energy_mj() == pytest.approx(other.energy_mj()) and one.synops == pytest.approx(other.synops)
            )


def test_integers_of_spikingjellys_neurons_are_events_too():
    node = neuron.ILIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m")
    net = nn.Sequential(nn.Flatten(2), node, nn.Linear(4, 2, bias=False))
    x = torch.tensor([[3.0, 0.2, 1.2, 9.0]]).reshape(1, 1, 2, 2)
    activity = gee_core.measure_energy(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(1), net[1], net[2]), x)
    assert activity.layers[1].counts and activity.layers[1].synops == 2 * activity.spikes_per_image


def test_a_network_without_integers_has_no_binary_form():
    with pytest.raises(InputError, match="no I-LIF neurons: give one of"):
        gee_core.to_binary(gee_core.build_network("cifarnet", 10, 3, 16, None, 0.0625))
