"""The initial wiring against its stated law, and the analytic σ's against the equations they solve."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import TRUNCATED_VARIANCE, Genotype, analytic_genotype
from gee_core.genome.wiring import truncated_normal_
from gee_core.model.network import build_network

RESNET19 = [128] * 7 + [256] * 6 + [512] * 4
CHAINS = [[64, 64], [3, 7, 5, 64], RESNET19, [256, 256, 256, 256, 512, 512, 1024, 1024]]


def draws(sigma, n=20_000, seed=0):
    return truncated_normal_(torch.empty(n), sigma, torch.Generator().manual_seed(seed)).double().numpy()


@pytest.mark.parametrize("sigma", [1.0, 0.03])
def test_draws_follow_scipys_truncated_normal_and_no_plain_one(sigma):
    x = draws(sigma)
    assert stats.kstest(x, stats.truncnorm(-2, 2, scale=sigma).cdf).pvalue > 0.01
    assert stats.kstest(x, stats.norm(scale=sigma).cdf).pvalue < 1e-6
    assert stats.kstest(x, stats.norm(scale=x.std()).cdf).pvalue < 1e-3


def test_the_truncated_variance_is_scipys_and_0_774_and_the_draws_have_it():
    assert pytest.approx(stats.truncnorm(-2, 2).var(), rel=1e-12) == TRUNCATED_VARIANCE
    assert round(TRUNCATED_VARIANCE, 3) == 0.774
    n = 200_000
    kurtosis_term = np.sqrt((stats.truncnorm(-2, 2).stats("k") + 2) / n)  # relative standard error of a variance
    assert draws(0.5, n).var() / 0.25 == pytest.approx(TRUNCATED_VARIANCE, rel=4 * kurtosis_term)


@pytest.mark.parametrize("kernel_positions", [9, 25])
@pytest.mark.parametrize("n_genes", [1, 200])
@pytest.mark.parametrize("channels", CHAINS, ids=len)
def test_the_analytic_sigmas_give_every_layer_the_variance_of_he(channels, n_genes, kernel_positions):
    genotype = analytic_genotype(channels, n_genes, kernel_positions)
    sigma_O, sigma_X = genotype.sigma_O, genotype.sigma_X
    assert len(sigma_X) == len(channels)
    for fan_in, s_in, s_out in zip(channels[:-1], sigma_X[:-1], sigma_X[1:], strict=True):
        variance = n_genes**2 * s_out**2 * sigma_O**2 * s_in**2 * 0.7737412876**3
        assert variance == pytest.approx(2 / (kernel_positions * fan_in), rel=1e-6)


@pytest.mark.parametrize("channels", CHAINS[1:], ids=len)
def test_every_other_solution_is_farther_from_equal_sigmas_of_the_mean_product(channels):
    genotype = analytic_genotype(channels, 24)
    logs = np.log([genotype.sigma_O, *genotype.sigma_X])
    products = [logs[0] + a + b for a, b in itertools.pairwise(logs[1:])]
    equal = np.mean(products) / 3
    signs = (-1.0) ** np.arange(len(channels))
    free = [np.r_[-2.0, np.ones(len(channels))], np.r_[0.0, signs]]  # both leave every σ_O·σ_l·σ_l-1 as it is
    nearest = np.square(logs - equal).sum()
    for direction in free:
        for step in (1e-3, -1e-3):
            assert np.square(logs + step * direction - equal).sum() > nearest


@pytest.mark.parametrize("sigmas", [[1.0] * 9, list(np.geomspace(0.01, 3.0, 9))], ids=["all one", "geometric"])
def test_before_training_batch_norm_lets_no_sigma_through(sigmas):
    """A σ scales its layer's weights, no more: with equal draws, every genotype starts as the same function."""

    def outputs(genotype):
        net = build_network("cifarnet", 10, image_size=16, n_genes=12, width=0.0625).train().double()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-14
        genome_of(net).initialise(genotype, torch.Generator().manual_seed(1))
        with torch.no_grad():
            return net(images)

    images = torch.randn(16, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    channels = [16] * 4 + [32] * 2 + [64] * 2
    analytic = outputs(analytic_genotype(channels, 12))
    assert analytic.std() > 0.01
    torch.testing.assert_close(outputs(Genotype(sigmas[0], tuple(sigmas[1:]))), analytic)
