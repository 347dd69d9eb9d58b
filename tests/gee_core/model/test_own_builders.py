"""Own networks whose code returns the same module every time, or holds neurons of another base class."""

import pytest
import torch
from spikingjelly.activation_based import neuron

from gee_core import build_network, register_network
from gee_core.genome.encoding import genome_of
from tests.gee_core.own_networks import VGG, MultiStep

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
