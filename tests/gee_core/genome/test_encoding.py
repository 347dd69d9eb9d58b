"""A genetic network is the plain network that its genes decode to, wherever its convolutions live."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gee_core.genome.chain import conv_chain
from gee_core.genome.encoding import decode, encode, genome_of
from gee_core.genome.weight import decode_conv
from tests.gee_core.genome.branches import Branches, G, branches, images


def test_conv_chain_finds_ungrouped_kernels_above_1x1_in_order_of_execution():
    net = branches(encoded=False)
    assert conv_chain(net, images()) == net.chain()  # neither skip (1x1), grouped nor unused


def test_the_genetic_network_equals_its_decoded_one_in_output_and_input_gradient():
    net = branches()
    plain = decode(net)
    x, y = images().requires_grad_(), images().requires_grad_()
    out, out_plain = net(x), plain(y)
    assert torch.equal(out, out_plain)
    assert out.std() > 1e-3
    grad = torch.autograd.grad(out.square().sum(), x)[0]
    grad_plain = torch.autograd.grad(out_plain.square().sum(), y)[0]
    assert torch.equal(grad, grad_plain)
    assert grad.abs().max() > 1e-6


def test_weights_are_decoded_from_the_encodings_of_this_layer_and_the_one_before():
    net = branches()
    X, O_GG = net.genome.encodings(), net.genome.O
    assert [tuple(tensor.shape) for tensor in X] == [(9, C, G) for C in (4, 4, 6, 7)]
    for position, conv in enumerate(net.chain()[1:], start=1):
        assert torch.equal(conv.weight, decode_conv(X[position - 1], O_GG, X[position], (3, 3)))


def test_decode_leaves_the_original_genetic_and_trainable_and_shares_nothing_with_its_copy():
    net, x = branches(), images()
    keys, out = list(net.state_dict()), net(x)
    plain = decode(net)
    assert list(net.state_dict()) == keys
    assert torch.equal(net(x), out)
    assert genome_of(plain) is None
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert all(type(conv) is nn.Conv2d for conv in plain.chain())
    with torch.no_grad():
        for tensor in [*plain.parameters(), *plain.buffers()]:
            tensor.zero_()
    assert torch.equal(net(x), out)
    net(x).sum().backward()
    assert all(gene.grad is not None for gene in [net.genome.O, *net.genome.encodings()])


def test_a_network_inside_another_is_decoded_with_it():
    outer, x = nn.Sequential(branches(), nn.Tanh()), images()
    plain = decode(outer)
    assert torch.equal(plain(x), outer(x))
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert genome_of(outer[0]) is not None


@pytest.mark.parametrize("by", ["example", "convs"])
def test_encode_leaves_its_argument_as_it_was_and_finds_the_chain_in_the_copy_by_name(by):
    net = branches(encoded=False).train()
    net.norm.eval()  # frozen statistics, as in fine-tuning
    before, modules = copy.deepcopy(net.state_dict()), list(net.modules())
    chain = {"example": {"example": images()}, "convs": {"convs": net.chain()}}[by]
    encoded = encode(net, G, **chain)
    assert type(encoded) is Branches
    assert list(net.modules()) == modules
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert list(before) == list(net.state_dict())
    assert encoded.genome.encoded_convs() == tuple(encoded.chain()[1:])
    assert not set(encoded.modules()) & set(modules)
    assert [module for module in net.modules() if not module.training] == [net.norm]
    assert not any(module._forward_pre_hooks for module in net.modules())
    x = images()
    assert torch.equal(encoded(x), branches()(x))


def test_decoding_inside_parametrizes_cache_is_that_of_the_network_itself():
    net = branches()
    other = copy.deepcopy(net)
    other.genome.O.data *= 2
    with parametrize.cached():
        net(images())  # torch keeps these weights for the copy too, with which the network shares its classes
        plain = decode(other)
    expected = decode_conv(other.genome.X_0, other.genome.O, other.genome.encodings()[1], (3, 3))
    assert torch.equal(plain.chain()[1].weight, expected)


def test_frozen_convolutions_stay_frozen_when_they_are_encoded_and_decoded_again():
    net = branches(encoded=False)
    for conv in net.chain():
        conv.requires_grad_(False)
    encoded = encode(net, G, convs=net.chain())
    assert not any(gene.requires_grad for gene in [encoded.genome.O, *encoded.genome.encodings()])
    assert not any(conv.weight.requires_grad for conv in decode(encoded).chain())
    assert any(parameter.requires_grad for parameter in decode(encoded).parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"exactly one of example .* and convs"),
        ({"example": images(), "convs": []}, r"exactly one of example .* and convs"),
        ({"example": images(), "seed": 1.5}, "seed = 1.5: must be an int from"),
        ({"example": images(), "n_genes": 10**30}, r"n_genes must be at most 1,000,000, got 10{30}"),
        ({"example": images(), "n_genes": None, "ratio": math.inf}, "ratio must be a number above 0 and at most 1, got inf"),
        ({"example": images().numpy()}, "must be a torch tensor, got ndarray: .* pass encode its convs"),
        ({"example": images(), "wiring": {"omega_X": 0.5}}, "wiring must be a Genotype, a Shape or None, got dict: write"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_by_name(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        encode(branches(encoded=False), **({"n_genes": G} | arguments))


def test_a_ratio_chooses_the_most_genes_that_keep_within_it_and_too_many_genes_are_warned_of():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 16, 3), nn.BatchNorm2d(16))
    x, before = torch.zeros(1, 3, 12, 12), sum(p.numel() for p in net.parameters())

    def parameters(**how) -> int:
        return sum(p.numel() for p in encode(net, example=x, **how).parameters())

    g = encode(net, ratio=0.4, example=x).genome.n_genes
    assert parameters(n_genes=g) <= 0.4 * before < parameters(n_genes=g + 1)
    most = encode(net, ratio=1.0, example=x).genome.n_genes
    with warnings.catch_warnings(action="error"):
        encode(net, most, example=x)
    with pytest.warns(UserWarning, match=rf"parameters in place of {before:,}; up to n_genes={most} there would be fewer"):
        encode(net, most + 1, example=x)
    with pytest.raises(ValueError, match=r"ratio = 0.05: with a single gene the network keeps 0\.\d+ of its parameters"):
        encode(net, ratio=0.05, example=x)
    for how in ({}, {"n_genes": 4, "ratio": 0.4}):
        with pytest.raises(ValueError, match=r"give exactly one of n_genes, such as 64, and ratio, such as 0.4"):
            encode(net, example=x, **how)
