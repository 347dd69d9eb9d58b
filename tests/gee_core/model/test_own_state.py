"""Own networks whose answers depend on earlier calls are refused; memory that is reset and draws from torch are not."""

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import base
from torch import nn

import gee_core
from gee_core.model.network import build_network
from tests.gee_core.own_networks import THREE, VGG, Folded, MultiStep

pytestmark = pytest.mark.usefixtures("own")

KINDS = dict(zip(THREE, (VGG, MultiStep, Folded), strict=True))


def remembering(net):
    def keep(head, inputs):
        net.last = inputs[0].detach() + getattr(net, "last", 0)
        return (net.last,)

    net.head.register_forward_pre_hook(keep)


def counting(net):
    def count(head, inputs, output):
        net.calls += 1
        return output * net.calls

    net.register_buffer("calls", torch.zeros(()))
    net.head.register_forward_hook(count)


def answering_with_its_state(net):
    def add(head, inputs, output):
        net.sum += output.mean()
        return net.sum.expand_as(output)

    net.register_buffer("sum", torch.zeros(()))
    net.head.register_forward_hook(add)


def drawing(net):
    net.head.register_forward_hook(lambda head, inputs, output: output + float(np.random.rand()))


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("change", [remembering, counting, answering_with_its_state, drawing])
def test_what_an_earlier_call_changes_is_refused_in_every_form_before_it_is_trained(name, change):
    def build(**sizes):
        net = KINDS[name](**sizes, **({"T": 4} if name == THREE[2] else {}))
        change(net)
        return net

    gee_core.register_network("a:bad", build)
    with pytest.raises(
        ValueError, match=r"^a:bad: the second call with the same images gives another output: .* than torch's$"
    ):
        build_network("a:bad", 5, 1, 8)


class Memory(base.MemoryModule):
    """The sum of its inputs since the last reset."""

    def __init__(self):
        super().__init__()
        self.register_memory("total", 0.0)

    def forward(self, x):
        self.total = self.total + x
        return self.total


class Resets(VGG):
    """``VGG`` with a memory that is reset, and noise from torch's generator."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__(num_classes, in_channels, image_size)
        self.head = nn.Sequential(Memory(), self.head)

    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


def test_memory_that_is_reset_and_noise_of_torchs_generator_are_taken_and_the_trial_leaves_no_trace():
    gee_core.register_network("a:resets", Resets)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    net = build_network("a:resets", 5, 1, 8, T=3).eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpys).all()
    assert {int(norm.num_batches_tracked) for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)} == {0}
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x), net(x))
