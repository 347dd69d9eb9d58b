"""The search vector of every group: round trips, bounds, and the genes that are not searched."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee_core.config import Shape
from gee_core.config.genes import GENES, searched_genes
from gee_core.config.network import genes_and_weights
from gee_core.errors import InputError
from gee_core.evolution.price import Allowance
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype, configured_genotype
from tests.gee_core.evolution.made_up import NARROWED, NETWORK, area

SETTINGS = {"v_threshold": 0.5, "tau": 2.0, "surrogate_alpha": 2.0, "lr": 1e-2, "lr_X": 1.0, "lr_O": 0.1, "weight_decay": 0.01}
SETTINGS |= {"width": 0.25, "tilt": 1.0, "n_genes": 12, "T": 2}
START = replace(configured_genotype(NETWORK), shape=Shape(omega_O=0.3, beta=0.5), settings=tuple(SETTINGS.items()))
GROUPS = (["wiring"], ["sigma_O", "sigma_X"], ["shape"], ["neurons", "plasticity"], ["structure"], ["wiring", "shape", "width"])
EVERY = pytest.mark.parametrize("names", GROUPS, ids=lambda names: "-".join(names))


def space(names, start=START, bound=4.0) -> SearchSpace:
    return SearchSpace(searched_genes(names, len(start.sigma_X), "lif"), start, bound, NETWORK)


def sigmas(genotype: Genotype) -> list[float]:
    return [genotype.sigma_O, *genotype.sigma_X]


def test_coordinates_are_logarithms_of_scales_and_parts_of_other_ranges():
    np.testing.assert_allclose(space(["wiring"]).start_vector(), np.log(sigmas(START)), rtol=1e-15)
    assert space(["sigma_O", "sigma_X"]).start_vector()[1] == np.log(START.sigma_X).mean()
    own = dict(
        zip(space(["shape", "tau", "width", "T"]).genes, space(["shape", "tau", "width", "T"]).start_vector(), strict=True)
    )
    tau = np.log(2.0 / 1.15) / np.log(4.0 / 1.15)
    assert own == pytest.approx({"omega_O": 0.3, "omega_X": 0.0, "beta": 0.25, "tau": tau, "width": 0.5, "T": 1 / 3})


@EVERY
def test_the_start_comes_back_from_its_vector(names):
    own = space(names)
    back = own.genotype(own.start_vector())
    assert back.settings == START.settings  # to the digit
    of_all = np.exp(np.log(START.sigma_X).mean())  # one σ for all X is the geometric mean of those of the start
    common = {f"sigma_{layer}": of_all for layer in range(len(START.sigma_X))} if "sigma_X" in names else {}
    assert back.as_dict() == pytest.approx(START.as_dict() | common)
    assert {type(value) for value in back.as_dict().values()} <= {float, int}  # JSON cannot hold numpy's


@given(st.data())
def test_every_vector_within_the_bounds_is_a_genotype_that_has_this_vector(data):
    own = space(data.draw(st.sampled_from(GROUPS[:4])))
    vector = np.array([data.draw(st.floats(low, high)) for low, high in zip(*own.bounds(), strict=True)])
    again = replace(own, start=own.genotype(vector)).start_vector()
    np.testing.assert_allclose(again, vector, atol=1e-5)  # settings have six digits


@EVERY
def test_genes_that_are_not_searched_stay_as_in_the_start(names):
    own = space(names)
    low, high = own.bounds()
    start, found = START.as_dict(), own.genotype(own.start_vector() + 0.3 * (high - low)).as_dict()
    changed = {name for name in found if found[name] != pytest.approx(start[name])}
    moved = {name for name in start if name.startswith("sigma")} if {"structure", "width", "sigma_X"} & set(names) else set()
    assert set(own.genes) - {"sigma_X"} <= changed | {"n_genes", "T"}
    assert changed <= set(own.genes) | moved


@pytest.mark.parametrize("names", [["wiring"], ["sigma_O", "sigma_X"], ["shape", "neurons", "plasticity", "structure"]])
def test_sigmas_lie_around_the_start_by_the_bound_and_other_genes_in_their_ranges(names):
    own = space(names)
    low, high = (own.genotype(side).as_dict() for side in own.bounds())
    for name in own.genes:
        if name.startswith("sigma"):
            centre = np.exp(np.log(START.sigma_X).mean()) if name == "sigma_X" else START.as_dict()[name]
            name, wanted = name.replace("X", "0"), (centre / 4, centre * 4)
        else:
            unit = SETTINGS[name] if name in ("width", "n_genes") else 1
            wanted = GENES[name].low * unit, GENES[name].high * unit
        assert (low[name], high[name]) == pytest.approx(wanted), name
    start = replace(START, settings=(("v_threshold", 3.0), ("lr", 1e-4)))  # outside of the ranges, which it widens
    own = space(["v_threshold", "lr"], start)
    assert own.genotype(own.start_vector()) == start
    assert [dict(own.genotype(side).settings)["v_threshold"] for side in own.bounds()] == [0.1, 3.0]


def test_another_structure_keeps_the_factors_of_the_start_to_its_analytic_sigmas():
    factors = replace(START, sigma_O=2 * START.sigma_O)
    own = space(["structure"], factors)
    found = own.genotype(own.bounds()[1])
    assert {name: dict(found.settings)[name] for name in ("width", "n_genes", "T")} == {"width": 0.5, "n_genes": 36, "T": 8}
    wide = configured_genotype(NETWORK.model_copy(update={"width": 0.5, "tilt": 2.0, "n_genes": 36}))
    np.testing.assert_allclose(sigmas(found), [2 * wide.sigma_O, *wide.sigma_X])


def test_a_plain_network_has_settings_alone():
    plain = configured_genotype(NETWORK.model_copy(update={"n_genes": None}))
    own = SearchSpace(("width", "v_threshold"), replace(plain, settings=tuple(SETTINGS.items())), 4.0, NETWORK)
    found = own.genotype([1.0, 0.0])
    assert found.as_dict() == SETTINGS | {"width": 0.5, "v_threshold": 0.1}
    assert Genotype.of(found.as_dict()) == found


NO_DECAY = replace(START, settings=(("weight_decay", 0.0),))
REFUSED = [
    (("omegaX", "beta"), START, "'omegaX' is no gene and no group: did you mean omega_X?"),
    (("sigma_9",), START, "'sigma_9' is none of a network with 8 encodings"),
    (("tau",), NO_DECAY, "'tau' is none of the start: leave it out, or give the start a value of it"),
    (("weight_decay",), NO_DECAY, "weight_decay is 0: .* set it to 0.0001, or leave"),
]


@pytest.mark.parametrize(("genes", "start", "said"), REFUSED)
def test_genes_that_are_not_there_or_cannot_start_are_refused(genes, start, said):
    with pytest.raises(InputError, match=said):
        SearchSpace(genes, start, 4.0)


def test_a_genotype_has_the_greatest_width_or_less_where_training_adds_energy():
    found = NARROWED.genotype([0.8])
    refitted = NARROWED.fitted(found, 1.1)
    wide, narrow = (dict(genotype.settings)["width"] for genotype in (found, refitted))
    assert 0.97 * 0.01 <= area(found).energy_uj <= 0.01 and 0.97 * 0.01 <= 1.1 * area(refitted).energy_uj <= 0.01
    assert 1.1 * narrow**2 == pytest.approx(wide**2, rel=0.03)
    analytic = configured_genotype(NETWORK.model_copy(update={"width": narrow}))
    np.testing.assert_allclose(sigmas(refitted), sigmas(analytic))
    assert NARROWED.price(found, 1.1).energy_uj == pytest.approx(1.1 * area(found).energy_uj)
    without = replace(NARROWED, allowance=None)
    assert without.fitted(found) == found and without.price(found) is None


@given(st.floats(1e-4, 0.1), st.floats(0, 1))
def test_the_genes_of_a_narrowed_network_are_no_more_numbers_than_its_weights(limit, coordinate):
    start = replace(NARROWED.start, settings=(("n_genes", 12), ("width", 0.25)))
    found = replace(NARROWED, genes=("n_genes",), start=start, allowance=Allowance({"energy_uj": limit}, area, True))
    genes = dict(found.genotype([coordinate]).settings)
    numbers, weights = genes_and_weights("vgg16", genes["width"], genes["n_genes"])
    assert numbers <= weights or genes["n_genes"] == 1


def test_without_the_width_among_the_genes_nothing_is_narrowed():
    own = replace(space(["width", "T"]), allowance=Allowance({"energy_uj": 1e-3, "steps": 3}, area))
    found = own.genotype(own.bounds()[1])
    assert dict(found.settings) == SETTINGS | {"width": 0.5, "T": 3}
