"""Training with rounded genes and weights."""

import copy
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gee_core.config.train import Quantise
from gee_core.data.images import PackedImages
from gee_core.genome.quantise import dequantise, quantise, scaled_dim
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.quantised import quantised_call
from tests.gee_core.own_networks import OWN, lively
from tests.gee_core.recipes import recipe

ENCODINGS = pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])


def network(n_genes=4, name="vgg16", seed=0):
    return build_network(name, 10, 1, 8, n_genes, 1 / 16, seed, T=2)


def rounded(net, bits):
    """A copy whose matrices are rounded, worked out parameter by parameter."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if (dim := scaled_dim(name, p)) is not None:
                p.copy_(dequantise(*quantise(p, bits, dim), dim))
    return other


@ENCODINGS
@pytest.mark.parametrize("name", ["vgg16", "resnet19"])
def test_outputs_gradients_and_statistics_are_those_of_the_rounded_network(n_genes, name):
    net, x = network(n_genes, name), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other, before = rounded(net, 4), [p.detach().clone() for p in net.parameters()]
    outputs = quantised_call(net, 4, x), other(x)
    assert torch.equal(*outputs)
    for o_TBK in outputs:
        o_TBK.square().sum().backward()
    assert any(p.grad.abs().sum() > 0 for p in net.parameters())
    for (key, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4 * q.grad.abs().max().item(), msg=key)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    for a, b in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", OWN)
def test_the_users_own_networks_are_rounded_alike(name):
    net, x = lively(name, 4)
    assert torch.equal(quantised_call(net, 4, x), rounded(net, 4)(x))
    assert not torch.equal(quantised_call(net, 4, x), net(x))


def test_only_the_last_epochs_are_rounded():
    how = recipe(epochs=5, quantise=Quantise(format="int4", epochs=2))
    assert [how.bits_of(epoch) for epoch in range(5)] == [None, None, None, 4, 4]
    assert {recipe(epochs=5).bits_of(epoch) for epoch in range(5)} == {None}


class Outlier(nn.Module):
    """Four pixels → logits; the first pixel is always dark, and its large weight sets the scale of all others."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        with torch.no_grad():
            self.fc.weight[:, 0] = 30.0

    def forward(self, x):
        return self.fc(x.flatten(1))[None]


def loss_after_rounding(quantise_epochs: int, bits: int, data_seed: int) -> float:
    """Of ``Outlier``, trained to tell whether the second pixel is brighter than the third.

    Without rounding in training, the weights of these pixels end near 1.5, far below the half of a step, 2.1, that rounding to
    four bits needs to tell them from 0.
    """
    pixels = torch.randint(0, 4, (64, 1, 2, 2), generator=torch.Generator().manual_seed(data_seed))
    pixels[:, :, 0, 0] = 0
    images = PackedImages(pixels.to(torch.uint8), (pixels[:, 0, 0, 1] > pixels[:, 0, 1, 0]).long())
    quantise = Quantise(format=f"int{bits}", epochs=quantise_epochs) if quantise_epochs else None
    net, how = Outlier(), recipe(epochs=20, lr=0.05, quantise=quantise)
    optimizer = make_optimizer("adamw", net, 0.0)
    for epoch in range(how.cfg.epochs):
        train_epoch(net, optimizer, images, how, epoch)
    with torch.no_grad():
        o_BK = rounded(net, bits)(how.normalise(images.images))[0]
    return F.cross_entropy(o_BK, images.labels).item()


def test_it_lowers_the_loss_after_rounding_to_four_bits():
    # The median: about one training in a hundred ends where a weight hops between two steps, and has a large loss.
    prepared, unprepared = (median(loss_after_rounding(epochs, 4, seed) for seed in range(5)) for epochs in (15, 0))
    assert prepared < 0.8 * unprepared
