"""The genes of shape on whole networks: which batch norms and convolutions they change, and what ``encode`` does with them."""

import math

import pytest
import torch
import torchvision
from spikingjelly.activation_based import layer, neuron
from torch import nn

import gee_core
from gee_core.genome.encoding import conv_chain, encode, genome_of
from gee_core.genome.genotype import Genotype
from gee_core.genome.shaping import shape_network
from gee_core.model.network import build_network

Shape = gee_core.Shape
BLOCKS = pytest.mark.parametrize("block", ["pre", "post"])
GENES = pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
N_BLOCKS = 6


def resnet18(block, n_genes):
    return build_network("resnet18", 3, 1, 8, n_genes, 1 / 32, block=block)


def changed(shape, net):
    """What ``shape_network`` multiplied the parameters that it changed by, by name."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    shape_network(net, shape)
    factors = {}
    for name, p in net.named_parameters():
        if not torch.equal(p, before[name]):
            ratio = p.detach() / before[name]
            torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
            factors[name] = ratio.mean().item()
    return factors


def norms(net):
    return {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}


def of_blocks(block, n_genes, inner):
    """Names of a parameter of every block, in order."""
    stem = "body.blocks" if block == "pre" else "body"
    if inner == "conv2" and n_genes:
        inner = "conv2.parametrizations.weight.original"
    else:
        inner = {"conv2": "conv2.weight", "norm": "norm_lif2.norm.weight"}[inner]
    return [f"{stem}.{number}.{inner}" for number in range(N_BLOCKS)]


@GENES
@pytest.mark.parametrize(("name", "block"), [("resnet18", "pre"), ("resnet18", "post"), ("vgg16", None)])
def test_gamma_0_multiplies_every_batch_norm_and_nothing_else(name, block, n_genes):
    net = build_network(name, 3, 1, 8, n_genes, 1 / 32, block=block)
    found = changed(Shape(gamma_0=1.5), net)
    assert found == dict.fromkeys(norms(net), pytest.approx(1.5))
    assert len(found) > 6


@GENES
@BLOCKS
def test_gamma_end_multiplies_the_last_batch_norm_of_every_branch_and_comes_on_top_of_gamma_0(block, n_genes):
    ends = of_blocks(block, n_genes, "norm")
    assert changed(Shape(gamma_end=0.5), resnet18(block, n_genes)) == dict.fromkeys(ends, pytest.approx(0.5))
    net = resnet18(block, n_genes)
    both = changed(Shape(gamma_0=3.0, gamma_end=0.5), net)
    expected = dict.fromkeys(norms(net), pytest.approx(3.0)) | dict.fromkeys(ends, pytest.approx(1.5))
    assert both == expected


@GENES
@BLOCKS
def test_the_slope_grades_the_last_convolutions_of_the_branches_over_depth(block, n_genes):
    found = changed(Shape(slope=1.2), resnet18(block, n_genes))
    factors = [math.exp(1.2 * (number / (N_BLOCKS - 1) - 0.5)) for number in range(N_BLOCKS)]
    assert found == dict(zip(of_blocks(block, n_genes, "conv2"), map(pytest.approx, factors), strict=True))
    assert math.prod(factors) == pytest.approx(1)


def test_in_a_pre_activation_network_the_slope_is_the_gain_of_the_branches():
    plain, sloped = resnet18("pre", 4), resnet18("pre", 4)
    shape_network(sloped, Shape(slope=2.0))
    for block, gain in ((0, math.exp(-1.0)), (N_BLOCKS - 1, math.exp(1.0))):
        one, other = (net.body.blocks[block].conv2 for net in (plain, sloped))
        spikes = torch.rand(2, one.in_channels, 4, 4)
        torch.testing.assert_close(other(spikes), gain * one(spikes))


class OneBranch(nn.Module):
    """A network with a single residual branch, which it names."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def branch_ends(self):
        return [(self.norm, self.conv)]


def test_a_single_branch_lies_at_mid_depth_where_the_slope_changes_nothing():
    assert changed(Shape(slope=2.0), OneBranch()) == {}
    assert changed(Shape(gamma_end=2.0), OneBranch()) == {"norm.weight": pytest.approx(2.0)}


@pytest.mark.parametrize("shape", [Shape(gamma_end=0.5), Shape(slope=1.0), Shape(gamma_0=2.0, slope=1.0)], ids=str)
def test_a_network_that_names_no_branches_is_refused_and_left_as_it_is(shape):
    for net in (build_network("vgg16", 3, 1, 8, 4, 1 / 32), torchvision.models.resnet18(num_classes=2)):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(ValueError, match="act on residual branches, which the network does not name: leave them out"):
            shape_network(net, shape)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_batch_norms_without_weights_are_passed_over():
    assert changed(Shape(gamma_0=2.0), nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))) == {
        "1.weight": pytest.approx(2.0)
    }


def test_gamma_0_multiplies_batch_norms_of_every_kind():
    kinds = [nn.BatchNorm1d(3), nn.BatchNorm3d(3), nn.SyncBatchNorm(3), layer.TemporalEffectiveBatchNorm2d(2, 3)]
    assert changed(Shape(gamma_0=2.0), nn.Sequential(*kinds)) == {f"{i}.weight": pytest.approx(2.0) for i in range(4)}


def spikingjelly():
    def lif():
        return neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True)

    return nn.Sequential(
        *(layer.Conv2d(3, 6, 3, padding=1), layer.BatchNorm2d(6), lif()),
        *(layer.Conv2d(6, 8, 3, padding=1), layer.BatchNorm2d(8), lif()),
        *(layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8), lif(), nn.Flatten()),
    )


def resnet():
    return torchvision.models.resnet18(num_classes=2)


NETS = pytest.mark.parametrize("make", [spikingjelly, resnet], ids=["spikingjelly", "torchvision"])
X = torch.rand(1, 3, 32, 32)


@NETS
def test_encode_draws_from_a_shape_around_the_analytic_sigmas(make):
    shape = Shape(omega_O=1.0, omega_X=1.0, beta=0.5, gamma_0=2.0)
    net = make()
    encoded = encode(net, 5, example=X, wiring=shape, seed=3)
    genome = genome_of(encoded)
    for matrix in [genome.O, genome.X_0[0], genome.encodings()[-1][4]]:
        S = torch.linalg.svdvals(matrix.detach())
        torch.testing.assert_close(S, S.mean().expand_as(S), rtol=1e-3, atol=0)
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(encoded.get_submodule(name).weight, 2 * module.weight)
    sigmas = genome.analytic_genotype()
    same = encode(net, 5, example=X, wiring=Genotype(sigmas.sigma_O, sigmas.sigma_X, shape), seed=3)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in encoded.state_dict().items())
    assert encoded.eval()(X).isfinite().all()


@NETS
def test_without_a_wiring_encode_draws_the_neutral_shape(make):
    torch.manual_seed(0)
    net = make()
    states = [encode(net, 5, example=X, wiring=wiring, seed=3).state_dict() for wiring in (None, Shape())]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_encode_takes_a_genotype_with_sigmas_of_its_own():
    net = spikingjelly()
    genome = genome_of(encode(net, 60, example=X, wiring=Genotype(2.0, (0.1, 0.2, 0.4)), seed=0))
    for tensor, sigma in zip([genome.O, *genome.encodings()], [2.0, 0.1, 0.2, 0.4], strict=True):
        assert 1.8 * sigma < tensor.abs().max() <= 2 * sigma
    with pytest.raises(ValueError, match=r"one value per encoding X_0 … X_2, got 2"):
        encode(net, 5, example=X, wiring=Genotype(1.0, (1.0, 1.0)))


@BLOCKS
def test_encode_shapes_the_branches_of_a_network_that_names_them(block):
    net = resnet18(block, None)
    one, other = (encode(net, 4, convs=net.conv_chain(), wiring=shape) for shape in (Shape(), Shape(gamma_end=0.5, slope=1.0)))
    ends = zip(one.branch_ends(), other.branch_ends(), strict=True)
    for number, ((norm, conv), (shaped_norm, shaped_conv)) in enumerate(ends):
        assert torch.equal(shaped_norm.weight, 0.5 * norm.weight)
        gain = math.exp(number / (N_BLOCKS - 1) - 0.5)
        X_l, shaped = (c.parametrizations.weight.original for c in (conv, shaped_conv))
        torch.testing.assert_close(shaped, gain * X_l)


@pytest.mark.parametrize("shape", [Shape(gamma_end=0.5), Shape(slope=1.0)], ids=str)
def test_encode_refuses_genes_of_branches_where_the_network_names_none_and_leaves_it_plain(shape):
    net = resnet()
    with pytest.raises(ValueError, match="which the network does not name"):
        encode(net, 4, example=X, wiring=shape)
    assert genome_of(net) is None
    assert conv_chain(net, X)
