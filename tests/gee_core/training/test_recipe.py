"""The penalty on synaptic operations against the counts of Eq. 17."""

import pytest
import torch

from gee_core.data.images import PackedImages
from gee_core.evaluation.energy import measure_energy
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.recipe import mean_rate, operations
from tests.gee_core.lively import awake
from tests.gee_core.recipes import recipe

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("network", ["cifarnet", "resnet18"])
@pytest.mark.parametrize("n_genes", [4, None])
def test_the_penalty_is_proportional_to_the_accumulates_of_the_convolutions(network, n_genes):
    net = awake(build_network(network, 3, 3, 8, n_genes, 1 / 16, T=3), X)
    with torch.no_grad(), operations(net, True) as found:
        net(X)
    layers = [layer for layer in measure_energy(net, X).layers if layer.kind == "conv" and layer.layer != "stem.conv"]
    macs = sum(layer.macs * layer.steps for layer in layers)
    assert len(found) == len(layers) > 6
    accumulates = sum(layer.energy_mj(e_ac=1e9) for layer in layers)
    assert mean_rate(found).item() == pytest.approx(accumulates / macs, rel=1e-5)
    assert 0 < mean_rate(found).item() < 1
    with operations(net, False) as found:
        net(X)
    assert found == []
    assert not any(module._forward_hooks for module in net.modules())


def test_a_network_trained_with_it_needs_fewer_operations_and_its_loss_is_without_it():
    images = PackedImages(
        torch.randint(0, 256, (16, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8), torch.arange(16) % 4
    )
    counts, losses = [], []
    for penalty in (0.0, 5.0):
        net, how = build_network("cifarnet", 4, 1, 8, 8, 1 / 16, T=2), recipe(epochs=10, batch_size=8, spike_penalty=penalty)
        optimizer = how.begin(net, images)
        losses.append([train_epoch(net, optimizer, images, how, epoch).train_loss for epoch in range(10)])
        counts.append(measure_energy(net, how.normalise(images.images)).effective_acs)
    assert counts[1] < 0.9 * counts[0]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=0.3)
