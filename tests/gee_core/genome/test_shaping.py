"""What ``encode`` does with genes of shape."""

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import gee_core
from gee_core.genome.encoding import encode, genome_of
from gee_core.genome.genotype import Genotype

Shape = gee_core.Shape


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
    shape = Shape(omega_O=1.0, omega_X=1.0, beta=0.5)
    net = spikingjelly()
    encoded = encode(net, 5, example=X, wiring=shape, seed=3)
    genome = genome_of(encoded)
    for matrix in [genome.O, genome.X_0[0], genome.encodings()[-1][4]]:
        S = torch.linalg.svdvals(matrix.detach())
        torch.testing.assert_close(S, S.mean().expand_as(S), rtol=1e-3, atol=0)
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
