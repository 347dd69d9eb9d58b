"""Training on the device: its curve, deterministic mode, bf16, resume, and steps that do not wait for the device."""

import pytest
import torch
from torch import nn

from gee_core.data.augment import Augment, to_input
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.zoo import NETWORKS
from tests.cuda.runs import NORMALISE, images, losses, network, recipe, streamed, train

CURVE = (0.03, 0.1)
"""Largest relative difference of the loss of each epoch between two runs of one seed. A GPU adds in any order, and a rounding
error moves spikes: on a CPU, errors of 1e-6 of the weights change these losses by up to 0.005 and 0.012."""
WITHOUT_ROTATIONS = Augment(crop_padding=2, flip=True, randaugment=0, erasing=0.5)
"""RandAugment rounds pixels, and its histograms have no deterministic sum."""


def alike(left, right):
    """Whether two curves agree within the tolerance."""
    return all(abs(a - b) <= rel * b for a, b, rel in zip(left, right, CURVE, strict=True))


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_one_seed_has_one_curve_to_the_bit_in_deterministic_mode(device, deterministic):
    how = recipe(device, augment=WITHOUT_ROTATIONS)
    first, again = (train(how, dropout=True) for _ in range(2))
    assert first[1] == again[1]
    assert same(first[0], again[0])
    assert losses(first[1])[1] < losses(first[1])[0]
    assert losses(train(recipe(device, augment=WITHOUT_ROTATIONS, seed=1), dropout=True)[1]) != losses(first[1])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_has_a_gradient_in_deterministic_mode(name, device, deterministic):
    net = build_network(name, 10, 3, 32, n_genes=4, width=1 / 32).to(device)
    net(torch.randn(2, 3, 32, 32, device=device)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_the_curve_is_the_cpus_within_a_tolerance(device):
    hows = (recipe(where, augment=WITHOUT_ROTATIONS) for where in (torch.device("cpu"), device))
    on_cpu, found = (losses(train(how)[1]) for how in hows)
    assert alike(found, on_cpu)


def test_crops_flips_and_erased_rectangles_are_those_of_the_cpu(device):
    packed = images()
    here, there = (
        to_input(packed.to(where).images, NORMALISE, WITHOUT_ROTATIONS, torch.Generator().manual_seed(1)).cpu()
        for where in ("cpu", device)
    )
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-6)
    assert not torch.equal(here, NORMALISE(packed.images))


def test_bf16_multiplies_in_bf16_and_ends_near_float32(device):
    net, seen = network().to(device), set()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, args, y: seen.add(y.dtype))
    how = recipe(device, torch.bfloat16)
    record = train_epoch(net, make_optimizer("adamw", net, 0.1, 0.9), images().to(device), how, 0)
    assert seen == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert record.train_loss == pytest.approx(losses(train(recipe(device))[1])[0], rel=0.1)


def test_stopped_in_mid_epoch_it_ends_bit_for_bit_the_same(device, deterministic, tmp_path):
    how, (epoch, step) = recipe(device, augment=WITHOUT_ROTATIONS), (1, 4)
    tensors, rows, n_calls = train(how, dropout=True)
    with pytest.raises(KeyboardInterrupt):
        train(how, tmp_path, (epoch, step), dropout=True)
    found, again, rest = train(how, tmp_path, dropout=True)
    assert again == rows
    assert same(found, tensors)
    assert rest == n_calls - (epoch * n_calls // 2 + step)


@pytest.mark.parametrize("name", ["resnet18", "cifarnet"])
@pytest.mark.parametrize("source", ["packed", "streamed"])
def test_no_step_waits_for_the_device(source, name, device, tmp_path, monkeypatch):
    """From the end of the first step, which compiles, to the beginning of the last, whose sums are read."""
    monkeypatch.setenv("GEE_LOADER_WORKERS", "2")
    packed = images()
    found = (streamed(tmp_path, packed) if source == "streamed" else packed).to(device)
    net = network(name=name).to(device)
    optimizer, n_steps, guarded = make_optimizer("adamw", net, 0.1, 0.9), 6, []

    def guard(on):
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error" if on else "default")

    def on_step(mid_epoch):
        guard(1 <= mid_epoch.step < n_steps - 1)
        guarded.append(mid_epoch.step)

    try:
        train_epoch(net, optimizer, found, recipe(device), 0, None, on_step)
    finally:
        guard(False)
    assert guarded == list(range(1, n_steps))
