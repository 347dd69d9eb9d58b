"""The initial wiring against its stated law, and the analytic σ's against the equations they solve."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from gee_core.config import Shape
from gee_core.genome.genotype import TRUNCATED_VARIANCE, Genotype, analytic_genotype
from gee_core.genome.wiring import truncated_normal_

CHAINS = [[64, 64], [3, 7, 5, 64], [256, 256, 256, 256, 512, 512, 1024, 1024]]


def draws(sigma, n=20_000, seed=0):
    return truncated_normal_(torch.empty(n), sigma, torch.Generator().manual_seed(seed)).double().numpy()


def test_draws_follow_scipys_truncated_normal_and_its_variance_is_known():
    x = draws(0.03)
    assert stats.kstest(x, stats.truncnorm(-2, 2, scale=0.03).cdf).pvalue > 0.01
    assert stats.kstest(x, stats.norm(scale=x.std()).cdf).pvalue < 1e-3
    assert pytest.approx(stats.truncnorm(-2, 2).var(), rel=1e-12) == TRUNCATED_VARIANCE
    assert round(TRUNCATED_VARIANCE, 3) == 0.774


@pytest.mark.parametrize(("kernel_positions", "n_genes"), [(9, 1), (25, 200)])
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


def test_the_names_of_the_genes_are_those_of_the_files():
    genotype = Genotype(0.5, (0.1, 0.2, 0.8), Shape(omega_X=0.5), (("v_threshold", 0.4), ("T", 3)))
    sigmas = {"sigma_O": 0.5, "sigma_0": 0.1, "sigma_1": 0.2, "sigma_2": 0.8}
    assert genotype.as_dict() == sigmas | {"omega_O": 0.0, "omega_X": 0.5, "beta": 0.0, "v_threshold": 0.4, "T": 3}
    assert Genotype.of(genotype.as_dict()) == genotype
    with pytest.raises(ValueError, match="sigma_5 is no gene of a network with 3 encodings"):
        Genotype.of(genotype.as_dict() | {"sigma_5": 1.0})
    with pytest.raises(ValueError, match="sigma_O must be > 0 and finite"):
        Genotype(-1, (1.0,))
    with pytest.raises(ValueError, match=r"sigma_X\[1\] must be > 0 and finite.* got nan"):
        Genotype(1.0, (1.0, np.nan))
