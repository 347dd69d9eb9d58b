"""Operations and spikes of the user's own networks, whichever way their steps run."""

import pytest
import torch
from torch import nn

import gee_core
from gee_core.evaluation.energy import measure_energy
from tests.gee_core.own_networks import THREE, VGG, lively

pytestmark = pytest.mark.usefixtures("own")

STEM_ONCE = "networks.my:StemOnce"


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_one_network_that_runs_its_steps_in_three_ways_has_equal_counts_spikes_and_energy():
    single, multi, folded = (measure_energy(net, x.split([4, 2])) for net, x in (lively(name, 4) for name in THREE))
    assert [layer.macs for layer in folded.layers] == [8 * 64 * 9, 16 * 64 * 9 * 8, 16 * 16 * 9 * 16, 16 * 5]
    assert [layer.steps for layer in folded.layers] == [3, 3, 3, 3]
    assert [layer.binary for layer in folded.layers] == [False, True, True, False]
    assert all(0.01 < layer.output_rate < 0.99 for layer in folded.layers[:3])
    assert single == multi == folded


def test_a_stem_that_runs_once_costs_one_step_and_one_that_gets_the_image_t_times_costs_t():
    once, repeated = (measure_energy(net, [x]).layers[0] for net, x in (lively(name) for name in (STEM_ONCE, THREE[2])))
    assert (once.layer, once.steps, once.macs) == ("net.features.0", 1, repeated.macs)
    assert repeated.energy_mj(4.6, 0.9) == pytest.approx(3 * once.energy_mj(4.6, 0.9))


def test_neurons_that_serve_two_layers_have_one_rate_for_both_and_the_head_has_none():
    class Shared(VGG):
        def __init__(self, T, **sizes):
            super().__init__(T=T, **sizes)
            self.features[6] = nn.Identity()  # in place of the pool
            self.features[9] = self.features[5]  # as one ReLU serves two layers in the blocks of torchvision

    gee_core.register_network("a:shared", Shared)
    layers = measure_energy(gee_core.build_network("a:shared", 5, 1, 8, T=3), [3 * images(2)]).layers
    rates = [layer.output_rate for layer in layers]
    assert rates[1] == rates[2] > 0
    assert rates[3] is None


@pytest.mark.parametrize("batch", [2, 3, 4], ids="batch of {}".format)
def test_a_plain_linear_layer_that_sees_its_steps_apart_runs_once_a_step(batch):
    class Apart(nn.Module):
        def __init__(self, num_classes, in_channels, image_size):
            super().__init__()
            self.body = gee_core.build_network(THREE[1], 7, in_channels, image_size, T=4).net
            self.head = nn.Linear(7, num_classes)

        def forward(self, x):
            return self.head(self.body(x))

    gee_core.register_network("a:apart", Apart)
    head = measure_energy(gee_core.build_network("a:apart", 5, 1, 8, T=4), [images(batch)]).layers[-1]
    assert (head.layer, head.steps, head.macs) == ("net.head", 4, 35)
