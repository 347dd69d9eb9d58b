"""Networks whose input changes from step to step: frames of events."""

import pytest
import torch

from gee_core.evaluation.energy import measure_energy
from gee_core.genome.encoding import decode
from gee_core.model.base import with_steps
from gee_core.model.network import build_network
from gee_core.snn import kernels
from tests.gee_core.lively import awake

NETWORKS = {"vgg16": None, "resnet18": "pre", "resnet19": "post", "resnet34": "pre"}


def network(name, T=3, in_channels=2, n_genes=4):
    return build_network(name, 5, in_channels, 16, n_genes, 1 / 32, block=NETWORKS[name], T=T, seed=1)


def frames(T=3, B=4, P=2, seed=0):
    return torch.randint(0, 4, (T, B, P, 16, 16), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_frames_are_the_still_image_and_gradients_too(name, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels, "compiles", lambda x: False)
    net, x = network(name), frames()[0]
    for training in (True, False):
        net.train(training)
        found = []
        for given in (x, x.expand(3, *x.shape)):
            net.zero_grad()
            o = net(given)
            o.square().sum().backward()
            found.append([o.detach(), *(p.grad.clone() for p in net.parameters())])
        for still, moving in zip(*found, strict=True):
            torch.testing.assert_close(still, moving, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_does_not_see_the_frames_after_it(name):
    x = frames(B=16)
    net = awake(decode(network(name)), x)
    changed = x.clone()
    changed[2] = frames(B=16, seed=1)[2]
    with torch.no_grad():
        o, other = net(x), net(changed)
    assert torch.equal(o[:2], other[:2])
    assert not torch.equal(o[2], other[2])


def test_an_input_of_another_number_of_frames_is_refused_and_fewer_steps_take_fewer():
    net = network("vgg16")
    with pytest.raises(ValueError, match=r"T = 3: .* = \(2, 4, 2, 16, 16\) has 2"):
        net(frames(2))
    with with_steps(net, 2):
        assert net(frames(2)).shape == (2, 4, 5)


def test_a_stem_accumulates_once_per_event_and_multiplies_images():
    net, x = network("vgg16", in_channels=1, n_genes=None), frames(P=1)
    stem = measure_energy(net, x).layers[0]
    assert (stem.binary, stem.counts, stem.steps) == (False, True, 3)
    assert stem.input_rate == pytest.approx(x.mean().item())
    assert stem.energy_mj(4.6, 0.9) == pytest.approx(0.9e-9 * x.mean().item() * stem.macs * 3)
    binary = measure_energy(net, x.clamp(max=1)).layers[0]
    assert binary.binary and binary.energy_mj() == pytest.approx(0.9e-9 * binary.input_rate * binary.macs * 3)
    for multiplied, steps in ((x / 3, 3), (-x, 3), (x[0], 1)):  # no counts; a still image, though of whole numbers
        stem = measure_energy(net, multiplied).layers[0]
        assert (stem.counts, stem.steps) == (False, steps)
        assert stem.energy_mj(4.6, 0.9) == pytest.approx(4.6e-9 * stem.macs * steps)
