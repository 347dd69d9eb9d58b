"""Own networks whose code returns the same module every time, or holds neurons of another base class."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn.utils import prune

from gee_core import build_network, measure_energy, register_network
from gee_core.genome.encoding import genome_of
from tests.gee_core.own_networks import VGG, MultiStep, lif

pytestmark = pytest.mark.usefixtures("own")

NAME = "networks.my:VGG"
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_module_that_the_class_returns_every_time_is_not_changed():
    module = VGG(5, 1, 8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    register_network(NAME, lambda num_classes, in_channels, image_size: module)
    nets = [build_network(NAME, 5, 1, 8, n_genes) for n_genes in (4, None, 4)]
    assert [genome_of(net) is None for net in nets] == [False, True, False]
    assert list(module.state_dict()) == list(before)
    assert all(net(X).shape == (4, 4, 5) for net in nets)


class Parallel(MultiStep):
    """With neurons of another base class than ``BaseNode``."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__(num_classes, in_channels, image_size)
        for i in (2, 5, 9):
            self.features[i] = neuron.SlidingPSN(k=2, step_mode="m")


def test_a_network_of_parallel_spiking_neurons_alone_is_accepted():
    register_network(NAME, Parallel)
    net = build_network(NAME, 5, 1, 8, 4)
    assert (net.form, net(X).shape) == ("steps", (4, 4, 5))


class Contained(nn.Module):
    """Single-step layers and neurons, without batch norm, in SpikingJelly's containers for all steps."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.features = nn.Sequential(
            layer.MultiStepContainer(nn.Conv2d(in_channels, 4, 3, padding=1), lif()),
            layer.MultiStepContainer(nn.Conv2d(4, 4, 3, padding=1), lif()),
        )
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.features(x).mean((-2, -1)))


def test_single_step_neurons_in_a_container_for_all_steps_take_all_steps():
    register_network(NAME, Contained)
    net = build_network(NAME, 5, 1, 8).eval()
    assert net.form == "steps"
    torch.testing.assert_close(net(X)[:, 1:2], net(X[1:2]))
    by_hand = net.net(X.repeat(4, 1, 1, 1, 1))
    assert torch.equal(net(X), by_hand)
    functional.reset_net(net)
    found, expected = measure_energy(net.net, X, steps=4), measure_energy(net, X)
    assert [layer.synops for layer in found.layers] == [layer.synops for layer in expected.layers]
    assert found.spikes_per_image == expected.spikes_per_image > 0


def prune_quarter(conv):
    prune.l1_unstructured(conv, "weight", 0.25)


@pytest.mark.parametrize(
    ("hook", "remedy"), [(nn.utils.spectral_norm, "remove_spectral_norm"), (prune_quarter, r"prune\.remove")]
)
def test_a_weight_that_a_hook_computes_is_refused_with_the_whole_remedy(hook, remedy):
    def build(num_classes, in_channels, image_size):
        net = VGG(num_classes, in_channels, image_size)
        hook(net.features[3])
        return net

    register_network(NAME, build)
    with pytest.raises(ValueError, match=f"^{NAME}: .*{remedy}"):
        build_network(NAME, 5, 1, 8, 4)
