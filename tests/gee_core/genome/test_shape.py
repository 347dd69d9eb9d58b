"""The laws of the genes of shape that act on the draws of X and O, and on the weights of a plain convolution."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gee_core.config import Shape
from gee_core.genome.encoding import decode_conv, encode
from gee_core.genome.genotype import Genotype
from gee_core.genome.wiring import draw_genes, shape_weight

CHANNELS, G, KERNEL = [5, 40, 12, 30], 16, (3, 3)  # layers with fewer and more neurons than genes, and than the layer before
SIGMAS = (0.5, (0.1, 0.4, 0.2, 0.3))
SHAPED = Shape(omega_O=0.6, omega_X=0.4, beta=0.7)


def draws(shape=None, channels=CHANNELS, n_genes=G, kernel=KERNEL, seed=0):
    """O and [X_0 … X_L]."""
    sigma_X = tuple(SIGMAS[1][layer % 4] for layer in range(len(channels)))
    genotype = Genotype(SIGMAS[0], sigma_X, shape or Shape())
    return draw_genes(genotype, channels, n_genes, kernel, torch.Generator().manual_seed(seed))


def test_the_neutral_shape_leaves_every_bit_of_the_draws():
    generator = torch.Generator().manual_seed(0)
    plain = []
    for size, sigma in [((G, G), SIGMAS[0]), *(((9, C, G), sigma) for C, sigma in zip(CHANNELS, SIGMAS[1], strict=True))]:
        plain.append(torch.nn.init.trunc_normal_(torch.empty(size), 0.0, sigma, -2 * sigma, 2 * sigma, generator=generator))
    O, X = draws()
    assert all(torch.equal(a, b) for a, b in zip([O, *X], plain, strict=True))


@pytest.mark.parametrize("neutral", ["omega_O", "omega_X", "beta", "none"])
def test_a_gene_that_is_neutral_does_nothing_among_others_that_are_not(neutral):
    """Each step applied on its own, in the order of the docstrings, but for the neutral one."""
    shape = SHAPED if neutral == "none" else SHAPED.model_copy(update={neutral: 0.0})
    O, X = draws()
    if shape.omega_X:
        X = [torch.stack([flattened(X_p, shape.omega_X) for X_p in x]) for x in X]
    if shape.beta:
        factors = torch.exp(-shape.beta / 2 * torch.tensor([2, 1, 2, 1, 0, 1, 2, 1, 2.0]))[:, None, None]
        X = [x * factors * (9 / factors.pow(4).sum()) ** 0.25 for x in X]
    if shape.omega_O:
        O = flattened(O, shape.omega_O)
    found = draws(shape)
    for drawn, expected in zip([found[0], *found[1]], [O, *X], strict=True):
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-6)


def flattened(matrix, omega):
    U, S, Vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    flat = (U * S ** (1 - omega)) @ Vh
    return (flat * (matrix.norm() / flat.norm())).float()


@pytest.mark.parametrize(("beta", "omega"), [(0.5, 0.0), (4.0, 0.0), (1.0, 1.0)])
def test_beta_and_omega_keep_the_norm_of_W(omega, beta):
    def norm(shape):
        O, X = draws(shape, [150, 200], 30)
        return decode_conv(X[0], O, X[1], KERNEL).norm().item()

    assert norm(Shape(beta=beta, omega_O=omega, omega_X=omega)) == pytest.approx(norm(Shape()), rel=0.05)


def test_a_plain_weight_is_shaped_as_a_decoded_one_is_where_a_gene_acts_on_it():
    before = torch.randn(24, 20, *KERNEL, generator=torch.Generator().manual_seed(3))
    for shape in (Shape(), Shape(omega_O=1.0)):
        assert torch.equal(shape_weight(before, shape), before)
    W = shape_weight(before, Shape(beta=0.8))
    assert W.norm().item() == pytest.approx(before.norm().item(), rel=0.05)
    ratio = W / before
    factors = torch.exp(-0.8 * torch.tensor([[2.0, 1, 2], [1, 0, 1], [2, 1, 2]]))
    torch.testing.assert_close(ratio, (factors * ratio[0, 0, 1, 1]).expand_as(ratio), rtol=1e-4, atol=0)
    flat = shape_weight(before, Shape(omega_X=0.4))
    torch.testing.assert_close(flat[:, :, 1, 2], flattened(before[:, :, 1, 2], 0.4), rtol=1e-4, atol=1e-5)


def chain():
    return nn.Sequential(*(nn.Conv2d(i, j, 3, padding=1) for i, j in ((3, 6), (6, 8), (8, 8))))


def test_encode_draws_from_a_shape_around_the_analytic_sigmas():
    shape, net = Shape(omega_O=1.0, omega_X=1.0, beta=0.5), chain()
    encoded = encode(net, 5, convs=list(net), wiring=shape, seed=3)
    for matrix in [encoded.genome.O, encoded.genome.X_0[0], encoded.genome.encodings()[-1][4]]:
        S = torch.linalg.svdvals(matrix.detach())
        torch.testing.assert_close(S, S.mean().expand_as(S), rtol=1e-3, atol=0)
    genotype = replace(encoded.genome.analytic_genotype(), shape=shape)
    same = encode(net, 5, convs=list(net), wiring=genotype, seed=3)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in encoded.state_dict().items())


def test_encode_takes_a_genotype_with_sigmas_of_its_own():
    net = chain()
    genome = encode(net, 60, convs=list(net), wiring=Genotype(2.0, (0.1, 0.2, 0.4)), seed=0).genome
    for tensor, sigma in zip([genome.O, *genome.encodings()], [2.0, 0.1, 0.2, 0.4], strict=True):
        assert 1.8 * sigma < tensor.abs().max() <= 2 * sigma
    with pytest.raises(ValueError, match=r"one value per encoding X_0 … X_2, got 2"):
        encode(net, 5, convs=list(net), wiring=Genotype(1.0, (1.0, 1.0)))
