"""A genetic network is the plain network that its genes decode to, wherever its convolutions live."""

import copy
import itertools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from gee_core.genome.encoding import decode, decode_conv, encode, genome_of
from tests.gee_core.genome.branches import Branches, G, branches, images


def test_decode_conv_equals_the_triple_product_written_as_loops():
    (J, I, h, w), generator = (4, 3, 2, 3), torch.Generator().manual_seed(0)
    X_in, O_GG, X_out = (torch.randn(size, generator=generator).double() for size in [(h * w, I, G), (G, G), (h * w, J, G)])
    W = torch.zeros(J, I, h, w, dtype=torch.float64)
    for j, i, row, column, a, b in itertools.product(*map(range, (J, I, h, w, G, G))):
        p = row * w + column  # row by row, as the kernel lies in memory
        W[j, i, row, column] += X_out[p, j, a] * O_GG[a, b] * X_in[p, i, b]
    torch.testing.assert_close(decode_conv(X_in, O_GG, X_out, (h, w)), W)


def test_weights_are_decoded_from_two_encodings_by_half_the_flops_that_torch_counts():
    net = branches()
    X, O_GG = net.genome.encodings(), net.genome.O
    assert [tuple(tensor.shape) for tensor in X] == [(9, C, G) for C in (4, 4, 6, 7)]
    for position, (conv, macs) in enumerate(zip(net.chain()[1:], net.genome.decode_macs(), strict=True), start=1):
        with FlopCounterMode(display=False) as counter:
            W = decode_conv(X[position - 1], O_GG, X[position], (3, 3))
        assert torch.equal(conv.weight, W)
        assert macs == counter.get_total_flops() / 2


def test_the_genetic_network_equals_its_decoded_one_in_output_and_input_gradient():
    net = branches()
    plain = decode(net)
    x, y = images().requires_grad_(), images().requires_grad_()
    out, out_plain = net(x), plain(y)
    assert torch.equal(out, out_plain) and out.std() > 1e-3
    grad = torch.autograd.grad(out.square().sum(), x)[0]
    assert torch.equal(grad, torch.autograd.grad(out_plain.square().sum(), y)[0]) and grad.abs().max() > 1e-6


def test_decode_leaves_the_original_as_it_is_and_shares_nothing_with_its_copy():
    net, x = nn.Sequential(branches(), nn.Tanh()), images()  # a network inside another is decoded with it, and a part of one
    keys, out, part = list(net.state_dict()), net(x), net[0].trunk["b"](x[:, :1].repeat(1, 4, 1, 1))
    plain = decode(net)
    assert torch.equal(plain(x), out) and torch.equal(decode(net[0].trunk["b"])(x[:, :1].repeat(1, 4, 1, 1)), part)
    assert not any(genome_of(module) or parametrize.is_parametrized(module) for module in plain.modules())
    assert all(type(conv) is nn.Conv2d for conv in plain[0].chain())
    with torch.no_grad():
        for tensor in [*plain.parameters(), *plain.buffers()]:
            tensor.zero_()
    assert list(net.state_dict()) == keys and torch.equal(net(x), out)
    net(x).sum().backward()
    assert all(gene.grad is not None for gene in [net[0].genome.O, *net[0].genome.encodings()])


@pytest.mark.parametrize("by", ["example", "convs"])
def test_encode_leaves_its_argument_and_finds_the_chain_in_the_copy_by_name(by):
    net = branches(encoded=False).train()
    net.norm.eval()  # frozen statistics, as in fine-tuning
    before, modules = copy.deepcopy(net.state_dict()), list(net.modules())
    encoded = encode(net, G, **{by: images() if by == "example" else net.chain()})
    assert type(encoded) is Branches
    assert list(net.modules()) == modules and list(before) == list(net.state_dict())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert encoded.genome.encoded_convs() == tuple(encoded.chain()[1:])
    assert not set(encoded.modules()) & set(modules)
    assert [module for module in net.modules() if not module.training] == [net.norm]
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert torch.equal(encoded(images()), branches()(images()))


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


X = {"example": images()}
REFUSED = [
    ({}, r"exactly one of example .* and convs"),
    (X | {"n_genes": 10**30}, "n_genes must be <= 10000, got 1000"),
    (X | {"n_genes": None, "ratio": math.inf}, "ratio must be a number above 0 and at most 1, got inf"),
    (X | {"n_genes": None, "ratio": 0.01}, r"ratio = 0.01: with a single gene the network keeps 0\.\d+ of its parameters"),
    (X | {"ratio": 0.4}, r"give exactly one of n_genes, such as 64, and ratio, such as 0.4"),
    ({"example": images().numpy()}, "must be a torch tensor, got ndarray: .* pass encode its convs"),
    (X | {"wiring": {"omega_X": 0.5}}, "wiring must be a Genotype, a Shape or None, got dict: write"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_an_argument_that_does_not_fit_is_refused_by_name(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        encode(branches(encoded=False), **({"n_genes": G} | arguments))


def test_a_ratio_chooses_the_most_genes_within_it_and_too_many_are_warned_of():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 16, 3), nn.BatchNorm2d(16))
    x, before = torch.zeros(1, 3, 12, 12), sum(p.numel() for p in net.parameters())

    def parameters(**how) -> int:
        return sum(p.numel() for p in encode(net, example=x, **how).parameters())

    g = encode(net, ratio=0.4, example=x).genome.n_genes
    assert parameters(n_genes=g) <= 0.4 * before < parameters(n_genes=g + 1)
    most = encode(net, ratio=1.0, example=x).genome.n_genes
    with warnings.catch_warnings(action="error"):
        encode(net, most, example=x)
    with pytest.warns(UserWarning, match=rf"parameters in place of {before:,}: ratio=1.0 takes the most genes"):
        encode(net, most + 1, example=x)


def test_a_state_dict_has_the_documented_keys_and_makes_a_fresh_network_the_same(tmp_path):
    net, x = branches(seed=0), images()
    state = net.state_dict()
    genes = {name: tuple(value.shape) for name, value in state.items() if "genome" in name or "parametriz" in name}
    channels = {"trunk.a": 4, "trunk.b": 6, "last": 7}
    encodings = {f"{name}.parametrizations.weight.original": (9, C, G) for name, C in channels.items()}
    assert genes == {"genome.O": (G, G), "genome.X_0": (9, 4, G)} | encodings
    assert not {f"{name}.weight" for name in channels} & set(state)
    assert {"stem.weight", "skip.weight", "grouped.weight", "last.bias"} <= set(state)
    torch.save(state, tmp_path / "net.pt")
    fresh = branches(seed=1)
    assert not torch.allclose(fresh(x), net(x))
    fresh.load_state_dict(torch.load(tmp_path / "net.pt"))
    assert torch.equal(fresh(x), net(x))
    assert torch.equal(decode(fresh)(x), net(x))
