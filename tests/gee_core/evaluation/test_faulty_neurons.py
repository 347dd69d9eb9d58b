"""Faulty neurons against loops over neurons and steps, in every form that a network's steps take."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from gee_core.evaluation.faulty_neurons import LEAST_THRESHOLD, add_mismatch, lose_steps, set_spikes, unlike_neurons
from gee_core.evaluation.hardware_noise import disturbed
from gee_core.snn.lif import LIF
from tests.gee_core.own_networks import THREE, lively

T, B, SHAPE = 6, 5, (3, 4, 2)


def generators(name):
    return torch.Generator().manual_seed(len(name))


def currents(seed=0):
    return 1.2 * torch.randn(T * B, *SHAPE, generator=torch.Generator().manual_seed(seed))


class One(nn.Module):
    """One layer of neurons as a network of T steps."""

    def __init__(self, node):
        super().__init__()
        self.T, self.node = T, node

    def forward(self, x):
        return self.node(x)


def lif_loop(x, tau, decay_input, v_reset, thresholds):
    """Spikes (T*B, …) of neurons with their own ``thresholds``, each step by step in float64."""
    spikes = torch.zeros(T, B, *SHAPE)
    for place in torch.cartesian_prod(*map(torch.arange, (B, *SHAPE))).tolist():
        V_th, v = float(thresholds[tuple(place[1:])]), 0.0
        for t in range(T):
            I = float(x.unflatten(0, (T, B))[(t, *place)])
            v += (I - v) / tau if decay_input else I - v / tau
            if v >= V_th:
                spikes[(t, *place)] = 1
                v = 0.0 if v_reset == 0.0 else v - V_th
    return spikes.flatten(0, 1)


@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard reset", "soft reset"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_neurons_with_mismatch_are_neurons_with_thresholds_of_their_own(decay_input, v_reset):
    net = One(LIF(T, tau=1.7, decay_input=decay_input, v_reset=v_reset))
    nominal = net(currents())
    add_mismatch(net, 0.4, generators)
    delta = 0.4 * torch.randn(SHAPE, generator=generators("node"))
    thresholds = (0.5 * (1 + delta)).clamp_min(0.5 * LEAST_THRESHOLD)
    expected = lif_loop(currents(), 1.7, decay_input, v_reset, thresholds)
    assert torch.equal(net(currents()), expected)
    assert (nominal != expected).float().mean() > 0.02
    assert torch.equal(net(currents().contiguous(memory_format=torch.channels_last)), expected)
    two = currents().unflatten(0, (T, B))[:, :2].flatten(0, 1)
    assert torch.equal(net(two).unflatten(0, (T, 2)), expected.unflatten(0, (T, B))[:, :2])


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["dropped", "spurious"])
def test_outputs_are_set_with_their_probability_and_no_other_output_changes(value):
    net = One(LIF(T))
    spikes = net(currents())
    set_spikes(net, 0.3, value, generators)
    changed, again = net(currents()), net(currents())
    assert set(changed[changed != spikes].tolist()) == {value}
    assert (changed != spikes).sum() / (spikes != value).sum() == pytest.approx(0.3, abs=0.1)
    assert not torch.equal(changed, again)  # every pass has faults of its own


@pytest.mark.parametrize("n", [2, T])
def test_in_lost_steps_no_neuron_fires_and_in_the_others_all_is_as_before(n):
    net = One(LIF(T))
    before = net(currents()).unflatten(0, (T, B))
    lose_steps(net, n, generators("steps"))
    after = net(currents()).unflatten(0, (T, B))
    lost = [t for t in range(T) if not after[t].any()]
    assert len(lost) == n and before.flatten(1).any(1).all()
    assert all(torch.equal(after[t], before[t]) for t in range(T) if t not in lost)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("domain", "strength"), [("threshold", 0.4), ("lost_step", 2)])
@torch.no_grad()
def test_one_network_in_three_forms_has_the_same_faults(domain, strength):
    single, multi, folded = (disturbed(net, domain, strength, seed=3) for net, _ in map(lively, THREE))
    _, x = lively(THREE[0])
    assert torch.equal(single(x), folded(x)) and torch.equal(multi(x), folded(x))
    assert torch.equal(single(x), folded(x))  # and in the next pass
    clean = lively(THREE[2])[0](x)
    assert not torch.equal(folded(x), clean)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (neuron.QIFNode(), "node is a QIFNode, whose membrane is not linear"),
        (LIF(T, v_reset=-0.3), "node is reset to -0.3, not to 0"),
        (neuron.LIFNode(v_reset=None), None),
        (neuron.ParametricLIFNode(), None),
    ],
)
def test_mismatch_is_for_linear_membranes_that_are_reset_to_0(node, reason):
    assert unlike_neurons(One(node)) == reason
