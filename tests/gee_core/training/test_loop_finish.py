"""`train.finish`: integers in the first epochs, the network's LIF neurons in the last."""

import pytest
import torch

from gee_core.config.train import Finish
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.model.base import with_steps
from gee_core.model.network import build_network
from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF
from gee_core.training.loop import carry_scales, train_epoch, with_integers
from gee_core.training.optimizers import make_optimizer
from tests.gee_core.recipes import recipe

IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def kinds(net):
    return {type(module) for module in net.modules() if isinstance(module, LIF | ILIF)}


def test_integers_of_one_step_are_fired_until_the_context_ends():
    net = build_network("resnet18", 10, 1, 16, 4, 1 / 32, T=4, v_threshold=0.7)
    with with_integers(net, 5), with_steps(net, 1):
        assert kinds(net) == {ILIF} and net(IMAGES).shape == (1, 3, 10)
        assert {(lif.T, lif.levels, lif.v_threshold) for lif in net.modules() if isinstance(lif, ILIF)} == {(1, 5, 0.7)}
    with with_integers(net, 5):
        assert net(torch.stack([IMAGES] * 4)).shape == (4, 3, 10)  # frames of recordings
    assert kinds(net) == {LIF} and net(IMAGES).shape == (4, 3, 10)
    with with_integers(net, None):
        assert kinds(net) == {LIF} and net.T == 4


@pytest.mark.parametrize("lif", [{}, {"tau": 4.0}, {"decay_input": False}, {"v_threshold": 1.3}])
def test_a_current_for_half_of_the_integers_becomes_one_for_every_other_step(lif):
    layer = NormLIF(2, LIF(8, **lif)).eval()
    x = (torch.tensor([0.5, 1.0]) * 4 * layer.lif.v_threshold)[None, :, None, None].repeat(8, 1, 1, 1)  # of D = 8: 2 and 4
    assert ILIF(8, 8, v_threshold=layer.lif.v_threshold)(x)[0].flatten().tolist() == [2.0, 4.0]
    carry_scales(layer, 8)
    rates = layer(x).mean(0).flatten()
    assert rates[0] < rates[1] and 0.3 <= rates[1] <= 0.6


def test_the_first_epochs_train_integers_and_the_last_goes_on_with_scaled_norms():
    net = build_network("cifarnet", 10, 1, 16, 4, 1 / 16, T=4)
    images = PackedImages((IMAGES * 255).to(torch.uint8), torch.arange(3))
    how = recipe(
        Augment(0, False, 0, 0.0, 0.0),
        Normalise((0.5,), (0.5,)),
        epochs=2,
        batch_size=3,
        lr=1e-6,
        finish=Finish(levels=8, epochs=1),
    )
    optimizer = make_optimizer("adamw", net, 0.0, 0.9)
    seen = []
    for epoch in range(2):
        net.register_forward_hook(lambda net, args, o: seen.append((len(o), kinds(net))))
        train_epoch(net, optimizer, images, how, epoch)
    assert seen[0] == (1, {ILIF}) and seen[-1] == (4, {LIF})
    norms = [layer.norm for layer in net.modules() if isinstance(layer, NormLIF)]
    assert all(norm.weight.mean().item() == pytest.approx(0.35, abs=1e-3) for norm in norms)  # 0.7·τ·2 / D, once
