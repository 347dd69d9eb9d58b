"""``gee_core.record``: the spikes and membranes are SpikingJelly's own, however the steps run."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

import gee_core

TRIANGLE = {"v_threshold": 0.5, "detach_reset": True, "surrogate_function": surrogate.PiecewiseQuadratic(alpha=2.0)}


@pytest.mark.parametrize("ours, theirs", [(gee_core.LIF(4), neuron.LIFNode(**TRIANGLE)), (gee_core.ILIF(4), neuron.ILIFNode())])
def test_spikes_and_membranes_of_every_step_mode_are_those_of_spikingjelly(ours, theirs):
    x = 3 * torch.rand(4, 2, 4)
    found = [gee_core.record(nn.Sequential(ours), x.flatten(0, 1))["0"]]
    for mode in ("s", "m"):
        functional.set_step_mode(theirs, mode)
        found.append(gee_core.record(nn.Sequential(theirs), x, time_first=True)["0"])
    theirs.store_v_seq = True
    spikes = theirs(x)
    assert all(torch.equal(each.spikes, spikes) and torch.allclose(each.membranes, theirs.v_seq) for each in found)
