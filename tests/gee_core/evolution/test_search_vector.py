"""The search vector of every form: round trips, bounds, and the genes that are not searched."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee_core.config import Shape
from gee_core.config.shape import SEARCH_RANGES, searched_genes
from gee_core.errors import InputError
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype

SHAPE = Shape(omega_O=0.3, beta=0.5, gamma_0=2.0, slope=-0.5, gamma_end=0.5)
START = Genotype(0.5, (0.1, 0.2, 0.8), SHAPE)
FORMS = ("per_layer", "shared", "shape")


def space(form: str, start: Genotype = START, bound: float = 4.0) -> SearchSpace:
    return SearchSpace(searched_genes(form, len(start.sigma_X), has_branches=True), start, bound)


def sigmas(genotype: Genotype) -> list[float]:
    return [genotype.sigma_O, *genotype.sigma_X]


def test_coordinates_are_logarithms_of_scales_half_of_beta_and_the_other_genes_themselves():
    np.testing.assert_allclose(space("per_layer").start_vector(), np.log([0.5, 0.1, 0.2, 0.8]))
    np.testing.assert_allclose(np.exp(space("shared").start_vector()), [0.5, (0.1 * 0.2 * 0.8) ** (1 / 3)])
    shape = dict(zip(space("shape").genes, space("shape").start_vector(), strict=True))
    wanted = {"sigma": 0.0, "omega_O": 0.3, "omega_X": 0.0, "beta": 0.25, "alpha": 0.0, "kappa": 0.0, "rho": 0.0}
    assert shape == pytest.approx(wanted | {"gamma_0": math.log(2), "gamma_end": math.log(0.5), "slope": -0.5})


@pytest.mark.parametrize("form", ["per_layer", "shape"])
def test_the_start_comes_back_from_its_vector(form):
    back = space(form).genotype(space(form).start_vector())
    np.testing.assert_allclose(sigmas(back), sigmas(START))
    assert back.shape.model_dump() == pytest.approx(SHAPE.model_dump())
    assert all(type(sigma) is float for sigma in sigmas(back))  # JSON cannot hold numpy's


@given(st.data())
def test_every_vector_within_the_bounds_is_a_genotype_that_has_this_vector(data):
    form = data.draw(st.sampled_from(FORMS))
    own = space(form)
    vector = np.array([data.draw(st.floats(low, high)) for low, high in zip(*own.bounds(), strict=True)])
    again = replace(own, start=own.genotype(vector)).start_vector()
    if form == "shape":  # its σ's are a factor on those of the start
        factors = np.log(np.array(own.genotype(vector).sigma_X) / START.sigma_X)
        np.testing.assert_allclose(factors, vector[0], atol=1e-9)
        again, vector = again[1:], vector[1:]
    np.testing.assert_allclose(again, vector, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_genes_that_are_not_searched_stay_as_in_the_start(form):
    own = space(form)
    vector = own.start_vector() + 0.1
    found = own.genotype(vector)
    if form == "shape":
        assert found.sigma_O == START.sigma_O
        np.testing.assert_allclose(found.sigma_X, np.exp(0.1) * np.array(START.sigma_X))
        plain = replace(own, genes=searched_genes("shape", 3, has_branches=False))
        kept = plain.genotype(plain.start_vector() + 0.1).shape
        assert (kept.gamma_end, kept.slope) == (SHAPE.gamma_end, SHAPE.slope)
    else:
        assert found.shape == SHAPE
    if form == "shared":
        assert len(set(found.sigma_X)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_sigmas_lie_between_the_start_divided_and_multiplied_by_the_bound_and_shapes_in_their_ranges(form):
    own = space(form)
    low, high = map(own.genotype, own.bounds())
    centre = sigmas(START) if form != "shared" else [0.5, *[math.exp(np.log(START.sigma_X).mean())] * 3]
    moved = slice(1, None) if form == "shape" else slice(None)
    np.testing.assert_allclose(np.array(sigmas(low))[moved], np.array(centre)[moved] / 4)
    np.testing.assert_allclose(np.array(sigmas(high))[moved], np.array(centre)[moved] * 4)
    if form == "shape":
        for gene, (least, greatest) in SEARCH_RANGES.items():
            assert (getattr(low.shape, gene), getattr(high.shape, gene)) == pytest.approx((least, greatest))


@pytest.mark.parametrize(
    ("genes", "said"),
    [
        (("omegaX", "beta"), "'omegaX' is none of a network with 3 encodings: did you mean omega_X?"),
        (("sigma_3",), "'sigma_3' is none of a network with 3 encodings"),
        (("sigma", "sigma_X"), "more than one would set all σ_l: leave out sigma or sigma_X"),
        (("sigma", "sigma_0", "sigma_1", "sigma_2"), "more than one would set all σ_l"),
    ],
)
def test_genes_that_are_not_there_or_have_no_effect_are_refused(genes, said):
    with pytest.raises(InputError, match=said):
        SearchSpace(genes, START, 4.0)
