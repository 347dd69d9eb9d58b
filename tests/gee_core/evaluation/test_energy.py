"""Operations and energy: by hand, against SpikingJelly's counter, and on the networks of the table."""

from itertools import pairwise

import pytest
import torch

from gee_core.evaluation.energy import measure_energy
from gee_core.genome.encoding import genome_of
from gee_core.model.network import BasicBlock, build_network
from gee_core.snn.lif import LIF
from tests.gee_core.lively import awake

E_MAC, E_AC = 4.6, 0.9
TINY = {"width": 1 / 32, "image_size": 8, "num_classes": 3, "in_channels": 1}


def inference(name, n_genes=None, **settings):
    """A network of the table whose neurons fire, though not all of them, and images for it."""
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return awake(build_network(name, **TINY, n_genes=n_genes, T=3, **settings), x), x


@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_residual_sum_costs_additions_that_eq_17_leaves_out(block):
    net, x = inference("resnet19", block=block)
    activity = measure_energy(net, [x[:4], x[4:]])
    channels, sides = [4, 4, 4, 8, 8, 8, 16, 16], [8, 8, 8, 4, 4, 4, 2, 2]
    assert activity.sums == 3 * sum(C * side**2 for C, side in zip(channels, sides, strict=True))
    assert activity.energy_of_sums_mj(E_AC) == pytest.approx(0.9e-9 * activity.sums)
    layers = sum(layer.energy_mj(E_MAC, E_AC) for layer in activity.layers)
    assert activity.energy_mj(E_MAC, E_AC) == pytest.approx(layers)


def test_rates_equal_those_of_the_spikes_themselves():
    net, x = inference("resnet19", block="post")
    spikes = {}
    for name, module in net.named_modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda m, args, y, name=name: spikes.update({name: y.double()}))
    activity = measure_energy(net, [x])
    assert activity.spikes_per_image == pytest.approx(sum(s.sum().item() for s in spikes.values()) / 6)
    assert activity.firing_rate == pytest.approx(torch.cat([s.flatten() for s in spikes.values()]).mean().item())
    layers = {layer.layer: layer for layer in activity.layers}
    assert layers["stem.conv"].output_rate == pytest.approx(spikes["stem.norm_lif.lif"].mean().item())
    before = spikes["stem.norm_lif.lif"]
    for index, block in enumerate(net.body):
        assert isinstance(block, BasicBlock)
        inner, outer = spikes[f"body.{index}.norm_lif1.lif"], spikes[f"body.{index}.norm_lif2.lif"]
        rates = [layers[f"body.{index}.{conv}"] for conv in ("conv1", "conv2")]
        assert [(r.input_rate, r.output_rate) for r in rates] == [
            pytest.approx((before.mean().item(), inner.mean().item())),
            pytest.approx((inner.mean().item(), outer.mean().item())),
        ]
        if f"body.{index}.shortcut" in layers:  # its sum with conv2 drives the same neurons
            shortcut = layers[f"body.{index}.shortcut"]
            assert shortcut.input_rate == pytest.approx(before.mean().item())
            assert shortcut.output_rate == rates[1].output_rate
        before = outer
    assert list(layers.values())[-1].output_rate is None


def test_building_weights_costs_what_its_two_products_cost():
    net, x = inference("resnet18", n_genes=5)
    genome, g = genome_of(net), 5
    expected = [9 * C_out * g * g + 9 * C_out * C_in * g for C_in, C_out in pairwise(genome.channels)]
    activity = measure_energy(net, [x])
    encoded = [layer for layer in activity.layers if layer.decode_macs]
    assert [layer.decode_macs for layer in encoded] == expected
    assert {layer.layer for layer in activity.layers} - {layer.layer for layer in encoded} >= {"stem.conv", "head.0", "head.2"}
    extra = activity.energy_with_decoding_mj(E_MAC, E_AC) - activity.energy_mj(E_MAC, E_AC)
    assert extra == pytest.approx(4.6 * sum(expected) * 1e-9)
