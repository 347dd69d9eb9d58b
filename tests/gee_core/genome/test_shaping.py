"""The genes of shape on whole networks: which batch norms and convolutions they change, and what ``encode`` does with them."""

import math

import pytest
import torch
import torchvision
from spikingjelly.activation_based import layer, neuron
from torch import nn

import gee_core
from gee_core.genome.encoding import encode, genome_of
from gee_core.genome.genotype import Genotype
from gee_core.genome.wiring import shape_network
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


@pytest.mark.parametrize("shape", [Shape(gamma_end=0.5), Shape(slope=1.0), Shape(gamma_0=2.0, slope=1.0)], ids=str)
def test_a_network_that_names_no_branches_is_refused_and_left_as_it_is(shape):
    for net in (build_network("vgg16", 3, 1, 8, 4, 1 / 32), torchvision.models.resnet18(num_classes=2)):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(ValueError, match="act on residual branches, which the network does not name: leave them out"):
            shape_network(net, shape)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def spikingjelly():
    def lif():
        return neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True)

    return nn.Sequential(
        *(layer.Conv2d(3, 6, 3, padding=1), layer.BatchNorm2d(6), lif()),
        *(layer.Conv2d(6, 8, 3, padding=1), layer.BatchNorm2d(8), lif()),
        *(layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8), lif(), nn.Flatten()),
    )


X = torch.rand(1, 3, 32, 32)


def test_encode_draws_from_a_shape_around_the_analytic_sigmas():
    shape = Shape(omega_O=1.0, omega_X=1.0, beta=0.5, gamma_0=2.0)
    net = spikingjelly()
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


def test_encode_takes_a_genotype_with_sigmas_of_its_own():
    net = spikingjelly()
    genome = genome_of(encode(net, 60, example=X, wiring=Genotype(2.0, (0.1, 0.2, 0.4)), seed=0))
    for tensor, sigma in zip([genome.O, *genome.encodings()], [2.0, 0.1, 0.2, 0.4], strict=True):
        assert 1.8 * sigma < tensor.abs().max() <= 2 * sigma
    with pytest.raises(ValueError, match=r"one value per encoding X_0 … X_2, got 2"):
        encode(net, 5, example=X, wiring=Genotype(1.0, (1.0, 1.0)))
