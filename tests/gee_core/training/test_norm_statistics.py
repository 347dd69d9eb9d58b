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


def network(T: int = 3) -> nn.Module:
    return build_network("resnet18", 2, 1, 8, n_genes=3, width=1 / 32, T=T)


def statistics_of(net: nn.Module, call, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(Means, unbiased variances) of what enters every batch norm in ``call`` of a copy of ``net`` in training mode."""
    net, found = copy.deepcopy(net).train(), {}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            take = lambda _, args, name=name: found.update({name: (args[0].mean((0, 2, 3)), args[0].var((0, 2, 3)))})  # noqa: E731
            module.register_forward_pre_hook(take)
    with torch.no_grad():
        call(net, x)
    return found


def own(net: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    norms = {name: module for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: (norm.running_mean, norm.running_var) for name, norm in norms.items()}


@pytest.mark.parametrize("bits", [None, 4])
def test_they_are_those_of_whole_images_at_all_steps(bits):
    net, images = network(), numbered(8, size=8)
    how = recipe(batch_size=8, norm_images=8, quantise=bits and Quantise(format=f"int{bits}", epochs=1), **SCHEDULE)
    train_epoch(net, make_optimizer("adamw", net, 0.0), images, how, 2)
    call = (lambda net, x: net(x)) if bits is None else (lambda net, x: quantised_call(net, bits, x))
    expected = statistics_of(net, call, images.images.float())
    torch.testing.assert_close(own(net), expected, rtol=1e-4, atol=1e-5)


def test_they_are_the_mean_over_whole_batches_of_images_that_are_drawn():
    net, images = network(), numbered(40, size=8)
    seen = []
    hook = net.register_forward_hook(lambda _, args, o: seen.append(args[0].clone()))
    renew_statistics(net, images, recipe(batch_size=4, norm_images=11))
    hook.remove()
    assert [len(x) for x in seen] == [4, 4]
    numbers = torch.cat(seen)[:, 0, 0, 0].round().int().tolist()
    assert len(set(numbers)) == 8 and max(numbers) > 11  # not the first in the order of the files
    both = [statistics_of(net, lambda net, x: net(x), x) for x in seen]
    expected = {name: tuple((a + b) / 2 for a, b in zip(both[0][name], both[1][name], strict=True)) for name in both[0]}
    torch.testing.assert_close(own(net), expected, rtol=1e-4, atol=1e-5)


def after_every_epoch(norm_images: int) -> list[dict[str, torch.Tensor]]:
    net, images, states = network(), numbered(8, size=8), []
    optimizer = make_optimizer("adamw", net, 0.0)
    for epoch in range(3):
        train_epoch(net, optimizer, images, recipe(norm_images=norm_images, **SCHEDULE), epoch)
        states.append(copy.deepcopy(net.state_dict()))
    assert all(norm.momentum == 0.1 for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))
    return states


def test_only_the_last_epoch_takes_them_and_nothing_else_changes():
    draws = torch.get_rng_state()
    running, renewed = after_every_epoch(0), after_every_epoch(8)
    assert torch.equal(draws, torch.get_rng_state())
    for epoch in range(3):
        changed = {name for name, value in running[epoch].items() if not torch.equal(value, renewed[epoch][name])}
        statistics = {name for name in running[epoch] if "running_" in name or "num_batches" in name}
        assert changed == (statistics if epoch == 2 else set())


@pytest.mark.parametrize("dropout", [layer.Dropout(), StepDropout(0.5, T=1)], ids=lambda d: type(d).__module__)
def test_dropout_is_off_while_they_are_taken_and_on_again_after(dropout):
    images, how = numbered(8, size=8), recipe(batch_size=8, norm_images=8)
    with_it, without = nn.Sequential(dropout, nn.BatchNorm2d(1)), nn.Sequential(nn.Identity(), nn.BatchNorm2d(1))
    for net in (with_it, without):
        renew_statistics(net, images, how)
    assert torch.equal(with_it[1].running_var, without[1].running_var)
    assert dropout.training
