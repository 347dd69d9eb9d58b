"""The defects of hardware do to weights, genes and spikes what their definitions say, to a copy, by the seed alone.

Faulty neurons are compared with loops over neurons and steps, in every form that a network's steps take.
"""

import re

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from gee_core.config.params import DOMAINS
from gee_core.evaluation import hardware_noise
from gee_core.evaluation.hardware_noise import (
    LEAST_THRESHOLD,
    OF_BITS,
    apply_defect,
    disturb,
    draw_mask,
    encoded_weights,
    genes_of,
    unfit,
)
from gee_core.genome.encoding import decode
from gee_core.genome.quantise import dequantise, quantise
from gee_core.model.network import build_network
from gee_core.seeding import torch_generator
from gee_core.snn.lif import LIF
from gee_core.training.loop import for_inference
from tests.gee_core.lively import awake, generator
from tests.gee_core.own_networks import THREE, lively

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
STRENGTH = {"weights": 0.5, "genes": 0.5, "threshold": 0.5, "lost_step": 1}


def net(n_genes=4, name="cifarnet"):
    return awake(build_network(name, 10, 3, 16, n_genes, 0.0625, T=3), X)


def domains(network):
    return [domain for domain in DOMAINS if unfit(network, domain) is None]


def weights_after(network, *arguments):
    return encoded_weights(disturb(network, *arguments))


@pytest.mark.parametrize(("name", "n_genes"), [("cifarnet", 4), ("resnet18", None)])
@torch.no_grad()
def test_strength_0_changes_no_bit_but_for_int8(name, n_genes):
    network = net(n_genes, name)
    clean = for_inference(network)(X)
    for domain in set(domains(network)) - {*OF_BITS}:
        assert torch.equal(disturb(network, domain, 0, 0)(X), clean), domain
    for key, W in encoded_weights(decode(network)).items():
        assert torch.equal(weights_after(network, "weight_bits", 0.0, 0)[key], dequantise(*quantise(W, 8, 0), 0))
    if n_genes:
        rounded = net(n_genes, name)
        for gene in genes_of(rounded).values():
            gene.copy_(dequantise(*quantise(gene, 8, -1), -1))
        assert torch.equal(disturb(network, "gene_bits", 0.0, 0)(X), for_inference(rounded)(X))


@pytest.mark.parametrize("domain", DOMAINS)
@torch.no_grad()
def test_a_defect_changes_what_a_copy_answers_by_its_seed_and_draw_alone(domain):
    network, strength = net(), STRENGTH.get(domain, 0.05)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clean, state = network(X), torch.random.get_rng_state()
    one, again, other_draw, other_seed = (
        disturb(network, domain, strength, seed, draw)(X) for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(one, again) and not torch.equal(one, clean)
    if domain != "lost_step":  # of three steps, draws may lose the same one
        assert not torch.equal(one, other_draw) and not torch.equal(one, other_seed)
    assert torch.equal(network(X), clean) and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_only_weights_that_could_be_encoded_are_wrong_and_by_the_same_draw():
    networks = {"genetic": net(), "plain": net(None)}
    drawn = {}
    for kind, network in networks.items():
        clean, wrong = (dict(n.named_parameters()) for n in (decode(network), disturb(network, "weights", 0.5, 0)))
        changed = {name for name in clean if not torch.equal(clean[name], wrong[name])}
        assert changed == {f"{name}.weight" for name in encoded_weights(decode(network))}
        assert not {name for name in changed if name.startswith(("stem", "head"))} and len(changed) == 7
        drawn[kind] = [(wrong[name] - W) / W.square().mean().sqrt() for name, W in clean.items() if name in changed]
    for one, other in zip(*drawn.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        assert one.std() == pytest.approx(0.5, rel=0.2)
    x = torch.randn(200, 300, generator=generator(1)) + 2.0  # whose root mean square is no standard deviation
    n = (apply_defect(x, "weights", 0.25, 0, generator()) - x) / x.square().mean().sqrt()
    assert n.mean().abs() < 0.01 and n.std() == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("p", [1e-3, 0.5])
def test_what_is_chosen_is_a_share_of_all_and_more_of_it_at_a_larger_probability(p):
    less, more = (draw_mask((1000, 1001), probability, generator()) for probability in (p, 1.5 * p))
    assert less.float().mean() == pytest.approx(p, rel=0.1)
    assert (less <= more).all() and less.sum() < more.sum()
    assert not draw_mask((3, 5), 0.0, generator()).any() and draw_mask((3, 5), 1.0, generator()).all()
    x = torch.randn(1000, 1001, generator=generator(1))
    assert torch.equal(apply_defect(x, "stuck", p, 0, generator()), torch.where(less, 0.0, x))


def flip_only(monkeypatch, bit, place):
    """The only bit that flips from now on: ``bit`` of the entry ``place`` of a tensor, in the tensors that have that entry."""

    def one(shape, p, generator):
        mask = torch.zeros(*shape, dtype=torch.bool)
        mask[(bit, *place)] = True
        return mask

    monkeypatch.setattr(hardware_noise, "draw_mask", one)


@pytest.mark.parametrize(("bit", "value"), [(0, 4), (6, 69), (7, 5 - 128)])
def test_a_flipped_bit_changes_a_code_as_in_twos_complement(monkeypatch, bit, value):
    x = torch.tensor([[127.0, 5.0], [-127.0, 5.0]])  # its scales are 1
    flip_only(monkeypatch, bit, (1, 1))
    assert apply_defect(x, "weight_bits", 0.5, 0, generator()).tolist() == [[127, 5], [-127, value]]


@pytest.mark.parametrize(
    ("domain", "strength", "says"),
    [
        ("threshold", -0.1, "a number from 0 to 1e+06, got -0.1"),
        ("dropped", 1.1, "a number from 0 to 1, got 1.1"),
        ("lost_step", 1.5, "a whole number from 0 to 3, got 1.5"),
    ],
)
def test_a_strength_out_of_range_and_genes_of_a_plain_network_are_refused(domain, strength, says):
    with pytest.raises(ValueError, match=re.escape(f"{domain}: strength must be {says}")):
        disturb(net(), domain, strength, 0)
    with pytest.raises(ValueError, match="gene_bits: the network is plain and has no genes"):
        disturb(net(None), "gene_bits", 0.1, 0)


T, B, SHAPE = 6, 5, (3, 4, 2)


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
    net = disturb(net, "threshold", 0.4, seed=0)
    delta = 0.4 * torch.randn(SHAPE, generator=torch_generator(0, "hardware", "threshold", 0, "node"))
    thresholds = (0.5 * (1 + delta)).clamp_min(0.5 * LEAST_THRESHOLD)
    expected = lif_loop(currents(), 1.7, decay_input, v_reset, thresholds)
    assert torch.equal(net(currents()), expected)
    assert (nominal != expected).float().mean() > 0.02
    assert torch.equal(net(currents().contiguous(memory_format=torch.channels_last)), expected)
    two = currents().unflatten(0, (T, B))[:, :2].flatten(0, 1)
    assert torch.equal(net(two).unflatten(0, (T, 2)), expected.unflatten(0, (T, B))[:, :2])


@pytest.mark.parametrize(("domain", "value"), [("dropped", 0.0), ("spurious", 1.0)])
def test_outputs_are_set_with_their_probability_and_no_other_output_changes(domain, value):
    net = One(LIF(T))
    spikes = net(currents())
    net = disturb(net, domain, 0.3, seed=0)
    changed, again = net(currents()), net(currents())
    assert set(changed[changed != spikes].tolist()) == {value}
    assert (changed != spikes).sum() / (spikes != value).sum() == pytest.approx(0.3, abs=0.1)
    assert not torch.equal(changed, again)  # every pass has faults of its own


@pytest.mark.parametrize("n", [2, T])
def test_in_lost_steps_no_neuron_fires_and_in_the_others_all_is_as_before(n):
    net = One(LIF(T))
    before = net(currents()).unflatten(0, (T, B))
    net = disturb(net, "lost_step", n, seed=0)
    after = net(currents()).unflatten(0, (T, B))
    lost = [t for t in range(T) if not after[t].any()]
    assert len(lost) == n and before.flatten(1).any(1).all()
    assert all(torch.equal(after[t], before[t]) for t in range(T) if t not in lost)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("domain", "strength"), [("threshold", 0.4), ("lost_step", 2)])
@torch.no_grad()
def test_one_network_in_three_forms_has_the_same_faults(domain, strength):
    single, multi, folded = (disturb(net, domain, strength, seed=3) for net, _ in map(lively, THREE))
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
    assert unfit(One(node), "threshold") == reason
