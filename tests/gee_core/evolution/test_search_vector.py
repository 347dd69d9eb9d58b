import numpy as np
import pytest

from gee_core.evolution.search_vector import from_vector, to_vector
from gee_core.genome.genotype import Genotype

GENOTYPE = Genotype(0.5, (0.1, 0.2, 0.8))


def test_the_vector_per_layer_is_the_logarithm_of_every_sigma_in_order():
    np.testing.assert_allclose(to_vector(GENOTYPE, "per_layer"), np.log([0.5, 0.1, 0.2, 0.8]))


def test_the_shared_vector_is_sigma_O_and_the_geometric_mean_of_the_others():
    np.testing.assert_allclose(np.exp(to_vector(GENOTYPE, "shared")), [0.5, (0.1 * 0.2 * 0.8) ** (1 / 3)])


def test_a_genotype_comes_back_from_its_vector():
    back = from_vector(to_vector(GENOTYPE, "per_layer"), "per_layer", 3)
    np.testing.assert_allclose([back.sigma_O, *back.sigma_X], [0.5, 0.1, 0.2, 0.8])
    assert isinstance(back.sigma_X, tuple)
    assert all(type(sigma) is float for sigma in (back.sigma_O, *back.sigma_X))  # JSON cannot hold numpy's


def test_a_shared_vector_gives_every_encoding_the_same_sigma():
    back = from_vector(np.log([0.5, 0.3]), "shared", 4)
    assert back == Genotype(back.sigma_O, (back.sigma_X[0],) * 4)
    np.testing.assert_allclose([back.sigma_O, back.sigma_X[0]], [0.5, 0.3])


@pytest.mark.parametrize("form", ["per_layer", "shared"])
def test_vector_to_genotype_to_vector_is_the_identity(form):
    vector = np.random.default_rng(0).normal(size=5 if form == "per_layer" else 2)
    np.testing.assert_allclose(to_vector(from_vector(vector, form, 4), form), vector)
