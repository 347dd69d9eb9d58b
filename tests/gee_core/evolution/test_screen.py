"""The screen of firing rates before any training."""

from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from gee_core.data.prepared import load_prepared
from gee_core.evolution import proxy
from gee_core.evolution.proxy import score
from gee_core.evolution.screen import untrained_firing_rate
from gee_core.hardware import Compute
from gee_core.model.wired import wired_network
from gee_core.seeding import torch_generator
from gee_core.snn.lif import LIF
from tests.gee_core.evolution.proxy_task import NETWORK, candidate, changed


@pytest.fixture
def net(task):
    return wired_network(NETWORK, load_prepared(task.prepared).meta, candidate(0).genotype, 0)


def rate(task, net, batch_size=4) -> float:
    data = load_prepared(task.prepared)
    return untrained_firing_rate(net, data.holdout_images(), batch_size, data.meta.normalise, Compute.of("cpu", "fp32"))


def test_the_rate_is_that_of_all_neurons_on_two_batches_normalised_by_batch(task, net):
    data, spikes = load_prepared(task.prepared), []
    holdout = data.holdout_images()
    order = torch.randperm(len(holdout), generator=torch_generator(0, "screen"))
    measured = rate(task, net)
    net.train()
    for module in net.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda module, args, out: spikes.append(out.detach().flatten()))
    for indices in (order[:4], order[4:8]):
        net(data.meta.normalise(holdout.images[indices]))
    assert measured == pytest.approx(torch.cat(spikes).double().mean().item(), rel=1e-6)
    assert 0 < measured < 1


def test_the_network_is_left_as_it_was(task, net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.eval()
    assert rate(task, net) == rate(task, net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_images_of_one_step_are_enough(n, task):
    meta, images = load_prepared(task.prepared).meta, load_prepared(task.prepared).holdout_images().subset(torch.arange(n))
    net = wired_network(NETWORK.model_copy(update={"T": 1}), meta, candidate(0).genotype, 0)
    assert 0 <= untrained_firing_rate(net, images, 4, meta.normalise, Compute.of("cpu", "fp32")) <= 1


def test_neurons_that_never_or_always_fire_have_a_rate_of_0_and_1(task, net):
    for bias, expected in ((-100.0, 0.0), (100.0, 1.0)):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, bias)
        assert rate(task, net) == expected


def test_a_spike_of_minus_1_counts_as_one_of_1(task):
    net, found = nn.Sequential(nn.BatchNorm2d(1), neuron.TernaryIFNode()), []
    net[1].register_forward_hook(lambda module, args, out: found.append(out.flatten()))  # the copy that runs has it too
    measured, outputs = rate(task, net), torch.cat(found)
    assert outputs.unique().tolist() == [-1, 0, 1]
    assert measured == pytest.approx((outputs != 0).double().mean().item())


def test_few_images_make_small_batches(task, net):
    n = len(load_prepared(task.prepared).holdout)
    assert rate(task, net, batch_size=1000) == rate(task, net, batch_size=n // 2)


def test_a_candidate_outside_the_range_fails_without_training(task, monkeypatch):
    monkeypatch.setattr(proxy, "train_epoch", lambda *_: pytest.fail("trained"))
    found = score(changed(task, screen=[0.98, 1.0]), candidate(0))
    assert found.status.startswith("failed: screened: firing rate 0.")
    assert found.status.endswith(" is outside 0.98 … 1.0")
    assert found.image_passes == 0
    assert found.L_ce != found.L_ce


def test_a_candidate_inside_the_range_has_the_score_that_it_has_without_a_screen(task):
    assert score(changed(task, screen=[0.0, 1.0]), candidate(0)) == score(task, candidate(0))


def test_a_candidate_that_goes_on_is_not_screened_again(task, tmp_path, monkeypatch):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=2, screen=[0.0, 1.0])
    score(task, replace(candidate(0), epochs=1))
    monkeypatch.setattr(proxy, "untrained_firing_rate", lambda *_: pytest.fail("screened again"))
    assert score(task, replace(candidate(0), epochs=2)).status == "ok"
