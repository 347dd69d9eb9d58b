"""The filters of a whitened stem against the patches that they were made of."""

import pytest
import torch

from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.whitening import EPSILON, whiten_stem
from tests.gee_core.recipes import recipe

NORMALISE = Normalise((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def pictures(n=200, channels=3):
    """Smooth images, so that neighbouring pixels correlate, of colours that do, too."""
    coarse = torch.randint(0, 256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    smooth = torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear").expand(n, channels, 8, 8)
    grain = torch.randint(-20, 20, (n, channels, 8, 8), generator=torch.Generator().manual_seed(1))
    return PackedImages((smooth + grain).clamp(0, 255).to(torch.uint8), torch.arange(n) % 3)


def currents(net, images):
    """The stem's outputs wherever its filters lie within the image, one row per position, less their mean."""
    y = net.stem.conv(NORMALISE(images.images))[:, :, 1:-1, 1:-1].detach().double()
    rows = y.permute(0, 2, 3, 1).flatten(0, 2)
    return rows - rows.mean(0)


def test_the_stems_outputs_have_unit_variance_do_not_correlate_and_come_in_pairs():
    images, net = pictures(), build_network("cifarnet", 3, 3, 8, 4, 1 / 4, seed=3)  # 64 filters for 27 directions
    before = net.stem.conv.weight.detach().clone()
    whiten_stem(net, images, NORMALISE, seed=0)
    assert torch.equal(net.stem.conv.weight[54:], before[54:])
    assert torch.equal(net.stem.conv.weight[27:54], -net.stem.conv.weight[:27])
    x = currents(net, images)[:, :27]
    covariance = x.T @ x / len(x)
    variance = covariance.diag()
    assert variance.min() > 0.5  # λ / (λ + ε)
    torch.testing.assert_close(covariance, variance.diag(), atol=2e-3, rtol=0)
    norms = net.stem.conv.weight[:27].detach().double().flatten(1).square().sum(1)
    torch.testing.assert_close(variance / norms + EPSILON, 1 / norms, rtol=1e-3, atol=1e-6)
    assert (norms.diff() > 0).all()  # the direction of the greatest variance first


def test_a_narrow_stem_takes_the_directions_of_greatest_variance_and_a_seed_the_same_images():
    images = pictures()
    wide, narrow, again = (build_network("cifarnet", 3, 3, 8, 4, width, seed=3) for width in (1 / 4, 1 / 16, 1 / 16))
    for net in (wide, narrow, again):
        whiten_stem(net, images, NORMALISE, seed=0)
    torch.testing.assert_close(narrow.stem.conv.weight[:8], wide.stem.conv.weight[:8])
    assert torch.equal(narrow.stem.conv.weight, again.stem.conv.weight)


def test_recordings_whose_frames_are_an_image_whiten_as_the_images_do():
    images, (net, same) = pictures(), (build_network("cifarnet", 3, 3, 8, 4, 1 / 4, seed=3) for _ in range(2))
    whiten_stem(net, images, NORMALISE, seed=0)
    whiten_stem(same, PackedImages(images.images[:, None].expand(-1, 2, -1, -1, -1), images.labels), NORMALISE, seed=0)
    torch.testing.assert_close(same.stem.conv.weight, net.stem.conv.weight, atol=1e-2, rtol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_training_leaves_the_stem_as_it_is_and_everything_else_learns(optimizer):
    images, net = pictures(16), build_network("resnet18", 3, 3, 8, 4, 1 / 16, T=2)
    how = recipe(normalise=NORMALISE, optimizer=optimizer, weight_decay=0.1, whiten=True)
    trained_by = how.begin(net, images)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train_epoch(net, trained_by, images, how, 0)
    same = [name for name, p in net.named_parameters() if torch.equal(p, before[name])]
    assert same == ["stem.conv.weight"]


def test_a_network_whose_first_convolution_does_not_read_the_images_is_refused():
    for net in (build_network("cifarnet", 3, 3, 8, 4, 1 / 16), torch.nn.Linear(2, 2)):
        with pytest.raises(InputError, match="whiten = true: the first convolution of the network does not read the images"):
            whiten_stem(net, pictures(channels=1), Normalise((0.5,), (0.2,)), 0)
