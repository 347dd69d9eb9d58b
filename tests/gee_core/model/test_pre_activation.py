"""Pre-activation blocks against loops over the steps, and against a twin of SpikingJelly's neurons and torch's batch norm."""

import copy

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from gee_core.model.network import build_network
from gee_core.snn import kernels

T, TAU, V_TH = 4, 2.0, 0.5


def lively(name, **settings):
    """A network in training mode whose norms shift and scale, so that its neurons fire at different rates; and images."""
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    net = build_network(name, 5, 3, 16, width=1 / 16, block="pre", **settings).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.bias.copy_(torch.rand(module.num_features, generator=generator) * 0.4)
                module.momentum = 1.0
            elif isinstance(module, nn.Linear):
                module.weight.mul_(10)
        net(x)
    return net, x


def twin(net, x, fire):
    """o (T, B, K) of ``net``'s own convolutions, norms and linear layers, with ``fire`` for the neurons."""
    stream = net.stem.pool(net.stem.conv(x.repeat(T, 1, 1, 1)))
    for block in net.body.blocks:
        branch = block.conv2(fire(block.norm_lif2.norm(block.conv1(fire(block.norm_lif1.norm(stream))))))
        if block.shortcut is not None:
            stream = block.shortcut.conv(fire(block.shortcut.norm_lif.norm(stream)))
        stream = stream + branch
    features = net.pool(net.body.norm(stream)).flatten(1)
    for layer in net.head:
        features = layer(features) if isinstance(layer, nn.Linear) else fire(features)
    return features.unflatten(0, (T, -1))


def spikingjelly(x):
    """Spikes of SpikingJelly's multi-step neurons."""
    triangle = surrogate.PiecewiseQuadratic(alpha=2.0)
    node = neuron.LIFNode(tau=TAU, v_threshold=V_TH, v_reset=0.0, detach_reset=True, surrogate_function=triangle, step_mode="m")
    return node(x.unflatten(0, (T, -1))).flatten(0, 1)


def spikes_of(net, call):
    """(result of ``call``, the spikes that reached each convolution behind the stem, by its name)."""
    found = {}
    names = {module: name for name, module in net.named_modules() if isinstance(module, nn.Conv2d) and name != "stem.conv"}
    for conv in names:
        conv.register_forward_pre_hook(lambda m, args: found.update({names[m]: args[0].detach()}))
    return call(), found


@pytest.fixture
def fused(monkeypatch):
    """The fused loops take every size, as they stand; returns a switch back to separate modules."""
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
    monkeypatch.setattr(kernels, "_compiled", lambda loop, on_gpu: loop)

    def switch(on):
        monkeypatch.setattr(kernels, "_compiles", [on])

    return switch


@pytest.mark.parametrize("name", ["resnet19", "resnet34"])
@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "separate"])
def test_spikes_and_gradients_equal_those_of_a_twin_of_spikingjellys_neurons(name, fuse, fused):
    net, x = lively(name)
    other = copy.deepcopy(net)
    fused(fuse)
    out, spikes = spikes_of(net, lambda: net(x))
    fused(False)
    expected, expected_spikes = spikes_of(other, lambda: twin(other, x, spikingjelly))
    assert spikes.keys() == expected_spikes.keys()
    for layer, s in spikes.items():
        assert torch.equal(s, expected_spikes[layer]), layer
        assert 0.02 < s.mean() < 0.98, layer
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    for o in (out, expected):
        (o.mean(0) * torch.arange(5)).square().mean().backward()
    for (key, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-3 * q.grad.norm(), key
    buffers = dict(other.named_buffers())
    for key, buffer in net.named_buffers():
        if "running_mean" in key:  # the stem's variance is corrected for fewer values than the twin's, which repeats them
            torch.testing.assert_close(buffer, buffers[key], rtol=1e-4, atol=1e-5)
