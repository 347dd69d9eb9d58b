"""Configured networks whose initial wiring has a shape, genetic and plain, and their form: residual block and pool."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gee_core.config import Shape
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.model.layers import BasicBlock, PreActivationBlock
from gee_core.model.wired import architecture_of, plain_parameters, wired_network
from tests.gee_core.model.test_wired import GENOTYPE, NETWORK, PLAIN, SHAPE

ORTHOGONAL = Shape(omega_O=1.0, omega_X=1.0, beta=0.5, gamma_0=2.0, gamma_end=0.5, slope=1.0)


def shaped(network, shape):
    return network.model_copy(update={"init": shape})


def is_flat(matrix):
    S = torch.linalg.svdvals(matrix.detach().double())
    return bool(S.max() < 1.001 * S.min())


def gammas(net):
    """Mean weight of every batch norm."""
    return [m.weight.mean().item() for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("network", [NETWORK, PLAIN], ids=["genetic", "plain"])
def test_a_neutral_init_changes_no_bit(network):
    states = [wired_network(shaped(network, shape), SHAPE, None, 3).state_dict() for shape in (None, Shape())]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_without_a_genotype_the_analytic_wiring_has_the_shape_of_init():
    neutral, net = (wired_network(shaped(NETWORK, shape), SHAPE, None, 3) for shape in (None, ORTHOGONAL))
    genome = genome_of(net)
    assert is_flat(genome.O) and is_flat(genome.X_0[4])
    assert not is_flat(genome_of(neutral).O)
    assert sorted(set(gammas(net))) == [1.0, 2.0]
    assert [norm.weight.mean().item() for norm, _ in net.branch_ends()] == [1.0] * len(net.branch_ends())
    first, last = (net.branch_ends()[i][1].parametrizations.weight.original for i in (0, -1))
    level = wired_network(shaped(NETWORK, ORTHOGONAL.model_copy(update={"slope": 0.0})), SHAPE, None, 3)
    before = [level.branch_ends()[i][1].parametrizations.weight.original for i in (0, -1)]
    assert (first.norm() / before[0].norm()).item() == pytest.approx(math.exp(-0.5))
    assert (last.norm() / before[1].norm()).item() == pytest.approx(math.exp(0.5))


def test_a_genotype_brings_its_own_shape_whatever_init_is():
    genotype = replace(GENOTYPE, shape=Shape(omega_O=1.0, gamma_0=3.0))
    net = wired_network(shaped(NETWORK, ORTHOGONAL), SHAPE, genotype, 3)
    assert is_flat(genome_of(net).O)
    assert not is_flat(genome_of(net).X_0[4])
    assert set(gammas(net)) == {3.0}
    same = wired_network(NETWORK, SHAPE, genotype, 3).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in net.state_dict().items())


def test_genotypes_that_differ_in_the_shape_alone_start_from_the_same_draws():
    one, other = (genome_of(wired_network(NETWORK, SHAPE, replace(GENOTYPE, shape=s), 3)) for s in (Shape(), Shape(beta=1.0)))
    assert torch.equal(one.O, other.O)
    assert not torch.equal(one.X_0, other.X_0)
    ratio = other.X_0 / one.X_0
    torch.testing.assert_close(ratio[4], ratio[4].mean().expand_as(ratio[4]))


def test_a_plain_network_gets_the_shape_too_but_for_its_stem_and_shortcuts():
    neutral, net = (wired_network(shaped(PLAIN, shape), SHAPE, None, 3) for shape in (None, ORTHOGONAL))
    chain = net.conv_chain()
    assert all(is_flat(conv.weight[:, :, 1, 1]) for conv in chain[1:])
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, neutral.get_parameter(name))}
    names = {module: name for name, module in net.named_modules()}
    norms = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    ends = {f"{names[norm]}.weight" for norm, _ in net.branch_ends()}  # γ_0 · γ_end = 1
    assert changed == {f"{names[conv]}.weight" for conv in chain[1:]} | (norms - ends)
    again = wired_network(shaped(PLAIN, ORTHOGONAL), SHAPE, None, 3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("rho", [0.3, 0.9])
def test_further_draws_of_a_plain_network_follow_its_seed(rho):
    first, again, other = (wired_network(shaped(PLAIN, Shape(rho=rho)), SHAPE, None, seed) for seed in (3, 3, 4))
    weights = [net.conv_chain()[1].weight for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("block", "kind"), [("pre", PreActivationBlock), ("post", BasicBlock)])
def test_the_configured_block_is_built_and_counted(block, kind):
    network = NETWORK.model_copy(update={"block": block})
    net = wired_network(network, SHAPE, None, 3)
    assert sum(isinstance(module, kind) for module in net.modules()) == 6
    assert architecture_of(net).network.block == block
    others = {other: plain_parameters(NETWORK.model_copy(update={"block": other}), SHAPE) for other in ("pre", "post")}
    plain = wired_network(network.model_copy(update={"n_genes": None}), SHAPE, None, 3)
    assert plain_parameters(network, SHAPE) == others[block] == sum(p.numel() for p in plain.parameters())
    assert others["pre"] != others["post"]


@pytest.mark.parametrize(("pool", "kind"), [("max", nn.MaxPool2d), ("avg", nn.AvgPool2d)])
def test_the_configured_pool_is_built(pool, kind):
    network = NETWORK.model_copy(update={"name": "vgg16", "block": None, "pool": pool})
    net = wired_network(network, SHAPE, None, 3)
    assert {type(m) for m in net.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)} == {kind}
    assert architecture_of(net).network.pool == pool


def test_a_shape_that_needs_branches_is_refused_for_a_network_without_them():
    network = NETWORK.model_copy(update={"name": "vgg16", "block": None})
    genotype = Genotype(1.0, (1.0,) * 8, Shape(slope=1.0))
    with pytest.raises(ValueError, match="residual branches, which the network does not name"):
        wired_network(network, SHAPE, genotype, 3)
