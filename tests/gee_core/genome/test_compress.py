"""Genes for given weights: exact where they came from genes, near the bound of truncated SVD where they did not."""

import copy
import math

import pytest
import torch
from torch import nn

from gee_core.genome.compress import compress
from gee_core.genome.encoding import decode, encode, genome_of
from gee_core.genome.genotype import TRUNCATED_VARIANCE
from gee_core.model.network import build_network

EXACT = 1e-4


def chain(channels: list[int], seed: int = 0, kernel: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    pairs = zip([3, *channels[:-1]], channels, strict=True)
    return nn.Sequential(*(nn.Conv2d(i, j, kernel, padding=kernel // 2) for i, j in pairs))


def errors_by_hand(net: nn.Sequential, original: nn.Sequential) -> list[float]:
    pairs = [(new.weight, old.weight) for new, old in zip(net[1:], original[1:], strict=False) if isinstance(new, nn.Conv2d)]
    return [((new - old).square().sum().sqrt() / old.square().sum().sqrt()).item() for new, old in pairs]


CHAINS = [([12, 12, 12, 12], 5), ([16, 8, 24, 12], 8), ([3, 8, 12, 4, 20, 16], 6), ([9, 11], 1)]
"""Of the second, one layer has as many neurons as genes, of the third some have fewer."""


@pytest.mark.parametrize(("channels", "n_genes"), CHAINS)
def test_a_network_that_was_decoded_from_genes_is_given_back_with_as_many(channels, n_genes):
    genetic = chain(channels)
    plain = decode(encode(genetic, n_genes, convs=list(genetic)))
    again, errors = compress(plain, n_genes, convs=list(plain))
    assert genome_of(again).n_genes == n_genes
    assert genome_of(plain) is None
    assert max(errors) < EXACT
    assert errors == pytest.approx(errors_by_hand(again, plain), rel=1e-3, abs=1e-8)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(x), plain(x), rtol=1e-3, atol=1e-3 * plain(x).abs().max().item())


def test_a_long_chain_of_the_zoo_is_given_back():
    plain = decode(build_network("resnet18", 10, 3, 32, 12, 1 / 16, seed=3, T=2)).eval()
    assert max(compress(plain, 12, convs=plain.conv_chain())[1]) < EXACT


def svd_bound(W_JIhw: torch.Tensor, n_genes: int) -> float:
    """The least error that any matrices of rank g leave, by kernel position (Eckart, Young)."""
    S = torch.linalg.svdvals(W_JIhw.detach().flatten(2).permute(2, 0, 1).double())
    return (S[:, n_genes:].square().sum() / S.square().sum()).sqrt().item()


@pytest.fixture(scope="module")
def low_rank():
    """Kernels whose singular values fall off, as trained ones' do."""
    net = chain([24, 32, 32, 48, 48])
    with torch.no_grad():
        for conv in net:
            U, S, Vh = torch.linalg.svd(conv.weight.permute(2, 3, 0, 1), full_matrices=False)
            S = S * 0.8 ** torch.arange(S.shape[2])
            conv.weight.copy_(((U * S[:, :, None]) @ Vh).permute(2, 3, 0, 1))
    return net


def test_no_layer_is_nearer_than_by_truncated_svd_and_more_genes_bring_all_nearer(low_rank):
    means = []
    for n_genes in (4, 8, 24):
        _, errors = compress(low_rank, n_genes, convs=list(low_rank))
        bounds = [svd_bound(conv.weight, n_genes) for conv in low_rank[1:]]
        assert all(error > bound - 1e-6 for error, bound in zip(errors, bounds, strict=True))
        means.append(sum(errors) / len(errors))
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.2 < means[0] < 1
    squares = [sum(e**2 for e in compress(low_rank, 8, convs=list(low_rank), sweeps=n)[1]) for n in (1, 4, 20)]
    assert squares == sorted(squares, reverse=True) and squares[2] < 0.8 * squares[0]  # so do sweeps


def test_every_layer_counts_alike_whatever_the_size_of_its_weights(low_rank):
    scaled = copy.deepcopy(low_rank)
    with torch.no_grad():
        for factor, conv in zip((1.0, 100.0, 0.01, 7.0, 1.0), scaled, strict=True):
            conv.weight.mul_(factor)
    found = [compress(net, 8, convs=list(net))[1] for net in (low_rank, scaled)]
    assert found[1] == pytest.approx(found[0], rel=1e-2)


def test_the_two_free_scales_are_those_nearest_to_the_spread_of_drawn_genes(low_rank):
    genome = genome_of(compress(low_rank, 8, convs=list(low_rank))[0])
    analytic, genes = genome.analytic_genotype(), [genome.O, *genome.encodings()]
    sigmas = math.sqrt(TRUNCATED_VARIANCE) * torch.tensor([analytic.sigma_O, *analytic.sigma_X])
    off_O, *off = torch.stack([gene.square().mean().sqrt() for gene in genes]).div(sigmas).log().tolist()
    assert max(map(abs, off)) > 0.1
    even, odd = sum(off[::2]), sum(off[1::2])
    assert (even, off_O) == pytest.approx((odd, odd), abs=1e-4)  # the residual of least squares


def test_the_even_and_the_odd_encodings_are_balanced_in_every_direction(low_rank):
    net = copy.deepcopy(low_rank)
    for conv in net[1:]:
        conv.weight.data /= conv.weight.square().mean().sqrt()  # else every layer has a scale of its own
    genome = genome_of(compress(net, 8, convs=list(net))[0])
    O = genome.O.detach().double()
    O = O / torch.linalg.svdvals(O)[0]  # orthogonal but for its scale
    X = [X_l.detach().double() @ torch.linalg.matrix_power(O, l) for l, X_l in enumerate(genome.encodings())]
    sums = [sum(x.mT @ x / x.shape[1] for x in part) for part in (X[::2], X[1::2])]
    torch.testing.assert_close(*(gram / gram.norm() for gram in sums), rtol=1e-3, atol=1e-4)


def test_weights_of_zero_and_kernels_of_other_sizes_are_approximated_too():
    net = chain([6, 8, 8], kernel=5)
    with torch.no_grad():
        net[1].weight.zero_()
    encoded, errors = compress(net, 3, convs=list(net))
    assert encoded[1].weight.abs().max() < 1e-6
    assert errors[1] == pytest.approx(errors_by_hand(encoded, net)[1])


def test_what_cannot_be_encoded_is_refused_and_left_as_it_was():
    net = chain([6, 8, 8])
    before = copy.deepcopy(net.state_dict())
    by_example = compress(net, 3, example=torch.zeros(1, 3, 8, 8))
    assert by_example[1] == compress(net, 3, convs=list(net))[1]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"sweeps must be >= 0, and an int, got 2\.5"):
        compress(net, 3, convs=list(net), sweeps=2.5)
    with pytest.raises(ValueError, match="a chain needs the stem"):
        compress(net, 3, convs=[net[0]])
    net[2].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="the weights are not finite"):
        compress(net, 3, convs=list(net))
    assert genome_of(net) is None
