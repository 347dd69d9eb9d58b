"""Spikes and membranes of all neurons are those of SpikingJelly's own recordings, however the steps run."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import gee_core

TRIANGLE = {"v_threshold": 0.5, "detach_reset": True, "surrogate_function": surrogate.PiecewiseQuadratic(alpha=2.0)}


@pytest.mark.parametrize("ours, theirs", [(gee_core.LIF(4), neuron.LIFNode(**TRIANGLE)), (gee_core.ILIF(4), neuron.ILIFNode())])
def test_folded_steps_have_the_spikes_and_membranes_of_spikingjelly(ours, theirs):
    functional.set_step_mode(theirs, "m")
    theirs.store_v_seq, x = True, 3 * torch.rand(4, 2, 8)
    found = gee_core.record(nn.Sequential(ours), x.flatten(0, 1))["0"]
    assert torch.equal(found.spikes, theirs(x)) and torch.allclose(found.membranes, theirs.v_seq)
    assert ours.v_seq is None and not ours.store_v_seq


@pytest.mark.parametrize("kind", [neuron.LIFNode, neuron.IFNode, neuron.ParametricLIFNode])
def test_both_step_modes_have_the_same_recordings(kind):
    net = nn.Sequential(layer.Conv2d(3, 4, 3), kind(v_threshold=0.2), layer.Conv2d(4, 4, 3), kind(v_threshold=0.2))
    x, found = torch.rand(2, 3, 8, 8), []
    for mode in ("s", "m"):
        functional.set_step_mode(net, mode)
        found.append(gee_core.record(net, x, steps=4))
    for name in ("1", "3"):
        assert all(torch.allclose(a, b) for a, b in zip(*(each[name][:2] for each in found), strict=True))
        assert found[0][name].spikes.shape[:2] == (4, 2) and found[0][name].layer == str(int(name) - 1)
    assert 0 < found[0]["1"].spikes.mean() < 1
