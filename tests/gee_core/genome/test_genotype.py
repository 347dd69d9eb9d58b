"""The genotype as the currency between evolution, wiring and files."""

import math

import pytest

from gee_core.config import Shape
from gee_core.genome.genotype import Genotype


def test_the_names_of_the_genes_are_those_of_the_files():
    genotype = Genotype(0.5, (0.1, 0.2, 0.8), Shape(omega_X=0.5), (("v_threshold", 0.4), ("T", 3)))
    sigmas = {"sigma_O": 0.5, "sigma_0": 0.1, "sigma_1": 0.2, "sigma_2": 0.8}
    assert genotype.as_dict() == sigmas | {"omega_O": 0.0, "omega_X": 0.5, "beta": 0.0, "v_threshold": 0.4, "T": 3}
    assert Genotype.of(genotype.as_dict()) == genotype
    with pytest.raises(ValueError, match="sigma_5 is no gene of a network with 3 encodings"):
        Genotype.of(genotype.as_dict() | {"sigma_5": 1.0})
    assert list(genotype.as_dict())[:4] == list(sigmas)


@pytest.mark.parametrize(
    ("sigma_O", "sigma_X", "message"),
    [(-1, (1.0,), "sigma_O must be > 0 and finite"), (1.0, (1.0, math.nan), r"sigma_X\[1\] must be > 0 and finite.* got nan")],
)
def test_a_sigma_that_is_no_standard_deviation_is_refused(sigma_O, sigma_X, message):
    with pytest.raises(ValueError, match=message):
        Genotype(sigma_O, sigma_X)
