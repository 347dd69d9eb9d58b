"""Batch norm's statistics taken anew after the last epoch, against those of the activations themselves."""

import copy

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from gee_core.config.train import Quantise
from gee_core.genome.quantise import quantised_call
from gee_core.model.layers import StepDropout
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.norm_statistics import renew_statistics
from gee_core.training.optimizers import make_optimizer
from tests.gee_core.recipes import recipe
from tests.gee_core.training.test_loop import numbered

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
    renew_statistics(net, images, recipe(batch_size=4, norm_images=11))
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
        renew_statistics(net, images, how)
    assert torch.equal(with_it[1].running_var, without[1].running_var)
    assert dropout.training
