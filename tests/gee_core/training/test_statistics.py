"""The filters of a whitened stem against the patches of the images, batch norm's statistics against the activations."""

import copy

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from gee_core.config.train import Quantise
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.genome.quantise import quantised_call
from gee_core.model.layers import StepDropout
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.statistics import EPSILON, whiten_stem
from tests.gee_core.recipes import recipe
from tests.gee_core.training.test_loop import numbered

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


def test_a_narrow_stem_takes_the_greatest_variances_and_a_seed_the_same_images():
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


SCHEDULE = {"sizes": [4], "T_schedule": [1]}


def network() -> nn.Module:
    return build_network("resnet18", 2, 1, 8, n_genes=3, width=1 / 32, T=3)


def norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}


def statistics_of(net: nn.Module, call, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means and unbiased variances (2, C) of what enters every batch norm in ``call`` of a copy of ``net`` in training mode."""
    net, entered = copy.deepcopy(net).train(), {}
    for name, module in norms(net).items():
        take = lambda _, args, name=name: entered.update({name: args[0].transpose(0, 1).flatten(1)})  # noqa: E731
        module.register_forward_pre_hook(take)
    with torch.no_grad():
        call(net, x)
    return {name: torch.stack([values.mean(1), values.var(1)]) for name, values in entered.items()}


def running(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.stack([norm.running_mean, norm.running_var]) for name, norm in norms(net).items()}


@pytest.mark.parametrize("bits", [None, 4])
def test_they_are_those_of_whole_images_at_all_steps_and_only_of_the_last_epoch(bits):
    draws, images, states = torch.get_rng_state(), numbered(8, size=8), {0: [], 8: []}
    quantise = bits and Quantise(format=f"int{bits}", epochs=1)
    for norm_images, of_epochs in states.items():
        net = network()
        optimizer = make_optimizer("adamw", net, 0.0)
        how = recipe(batch_size=8, norm_images=norm_images, quantise=quantise, **SCHEDULE)
        for epoch in range(3):
            train_epoch(net, optimizer, images, how, epoch)
            of_epochs.append(copy.deepcopy(net.state_dict()))
    for epoch, (kept, renewed) in enumerate(zip(*states.values(), strict=True)):
        changed = {name for name, value in kept.items() if not torch.equal(value, renewed[name])}
        statistics = {name for name in kept if "running_" in name or "num_batches" in name}
        assert changed == (statistics if epoch == 2 else set())
    assert torch.equal(draws, torch.get_rng_state()) and all(norm.momentum == 0.1 for norm in norms(net).values())
    call = (lambda net, x: net(x)) if bits is None else (lambda net, x: quantised_call(net, bits, x))
    torch.testing.assert_close(running(net), statistics_of(net, call, images.images.float()), rtol=1e-4, atol=1e-5)


def test_they_are_the_mean_over_whole_batches_of_images_that_are_drawn():
    net, images = network(), numbered(40, size=8)
    seen = []
    hook = net.register_forward_hook(lambda _, args, o: seen.append(args[0].clone()))
    recipe(batch_size=4, norm_images=11).end(net, images)
    hook.remove()
    assert [len(x) for x in seen] == [4, 4]
    numbers = torch.cat(seen)[:, 0, 0, 0].round().int().tolist()
    assert len(set(numbers)) == 8 and max(numbers) > 11  # not the first in the order of the files
    first, second = (statistics_of(net, lambda net, x: net(x), x) for x in seen)
    expected = {name: (first[name] + second[name]) / 2 for name in first}
    torch.testing.assert_close(running(net), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [layer.Dropout(), StepDropout(0.5, T=1)], ids=lambda d: type(d).__module__)
def test_dropout_is_off_while_they_are_taken_and_on_again_after(dropout):
    images, how = numbered(8, size=8), recipe(batch_size=8, norm_images=8)
    with_it, without = nn.Sequential(dropout, nn.BatchNorm2d(1)), nn.Sequential(nn.Identity(), nn.BatchNorm2d(1))
    for net in (with_it, without):
        how.end(net, images)
    assert torch.equal(with_it[1].running_var, without[1].running_var)
    assert dropout.training
