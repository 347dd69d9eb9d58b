import math

import cma
import numpy as np
import pytest

from gee_core.evolution.search import CmaEs
from tests.gee_core.evolution.made_up import config


def search(n=5, population_size=8, seed=0, step=0.3, half_width=2.0) -> CmaEs:
    start = np.linspace(-1, 1, n)
    return CmaEs(start, step, (start - half_width, start + half_width), population_size, seed)


def quadratic(x):
    """Least, and 0, at 0.5 in every direction; ill-conditioned."""
    return sum(10**i * (v - 0.5) ** 2 for i, v in enumerate(x))


def run(es: CmaEs, n_generations: int, f=quadratic) -> list[np.ndarray]:
    asked = []
    for _ in range(n_generations):
        candidates = es.ask()
        asked.append(np.array(candidates))
        es.tell([(f(x), 0.0) for x in candidates])
    return asked


def test_the_seed_alone_decides_what_is_asked_and_numpys_global_generator_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    first = run(search(), 3)
    after = np.random.get_state()[1], np.random.get_state()[2]
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1] == before[1]
    np.random.seed(2)
    np.testing.assert_array_equal(run(search(), 3), first)
    assert not np.array_equal(run(search(seed=1), 3)[0][1:], first[0][1:])


def test_the_start_is_the_first_candidate_of_the_first_generation_and_of_no_other():
    first, second = run(search(), 2)
    np.testing.assert_allclose(first[0], np.linspace(-1, 1, 5), rtol=1e-12)
    assert not any(np.allclose(x, first[0]) for x in [*first[1:], *second])


@pytest.mark.parametrize("step", [0.3, 3.0])
def test_every_candidate_lies_within_the_bounds(step):
    es = search(step=step, half_width=0.5)
    asked = np.concatenate(run(es, 12, lambda x: -abs(x).sum()))  # pulls outwards
    assert (abs(asked - np.linspace(-1, 1, 5)) <= 0.5 + 1e-12).all()
    assert (abs(asked - np.linspace(-1, 1, 5)) > 0.45).any()


@pytest.mark.parametrize("n", [2, 8, 37])
def test_the_default_population_is_that_of_cma_es(n):
    es = cma.CMAEvolutionStrategy(np.zeros(n), 0.3, {"verbose": -9})
    assert config(population_size=None).population(n) == es.popsize


def test_the_mean_and_the_state_describe_what_is_drawn():
    es = search(population_size=1000)
    run(es, 3)
    asked, state = np.array(es.ask()), es.state()
    np.testing.assert_allclose(asked.mean(axis=0), state.means, atol=0.03)
    np.testing.assert_allclose(asked.std(axis=0), state.stds, rtol=0.15)
    assert state.axis_ratio > 1.5


@pytest.mark.parametrize("half_width", [0.2, 1.0])
def test_a_search_of_one_gene_widens_to_its_bounds_and_finds_the_least(half_width):
    def least(x):
        return (x[0] + 1 - half_width / 2) ** 2

    outwards = np.concatenate(run(search(1, step=0.3, half_width=half_width), 12, lambda x: -abs(x[0] + 1)))
    assert (abs(outwards + 1) <= half_width + 1e-12).all() and (abs(outwards + 1) > 0.9 * half_width).any()
    assert min(map(least, run(search(1, step=0.01, half_width=half_width), 40, least)[-1])) < 1e-8


def asked_after(values: list) -> np.ndarray:
    """The second generation, after the first (of six) had this fitness, or (fitness, excess)."""
    es = search(population_size=6)
    es.ask()
    es.tell([(value, 0.0) if isinstance(value, int | float) else value for value in values])
    return np.array(es.ask())


def test_a_failed_candidate_ranks_behind_all_others_wherever_it_stands():
    np.testing.assert_array_equal(asked_after([2, math.nan, 1, 0, 5, 4]), asked_after([2, 6, 1, 0, 5, 4]))
    np.testing.assert_array_equal(asked_after([-2, math.nan, -1, -9, -5, -4]), asked_after([-2, 0, -1, -9, -5, -4]))
    assert not np.array_equal(asked_after([2, math.nan, 1, 0, 5, 4]), asked_after([2, 3, 1, 0, 5, 4]))


def test_candidates_outside_of_the_budget_rank_after_all_others_by_their_excess_and_before_failed_ones():
    outside = [2, (-7, 0.5), 1, (math.nan, 0.25), math.nan, 4]
    np.testing.assert_array_equal(asked_after(outside), asked_after([2, 8, 1, 7, 9, 4]))
    np.testing.assert_array_equal(asked_after([(3, 2.0), *[math.nan] * 5]), asked_after([2, *[math.nan] * 5]))


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("learned", [0, 3])
def test_a_generation_of_failures_leaves_the_distribution_as_it_is_and_the_search_goes_on_from_there(n, learned):
    es = search(n)
    run(es, learned)
    asked, before = np.array(es.ask()), es.state()
    for _ in range(3):
        es.tell([(math.nan, 0.0)] * 8)
        again = np.array(es.ask())
        assert es.state() == before
        assert not np.isclose(again[1:], asked[1:]).any()
        assert np.allclose(again[0], asked[0]) == (learned == 0)  # the start has not been scored yet
    es.tell([(quadratic(x), 0.0) for x in again])
    assert es.state() != before
    assert min(map(quadratic, run(es, 200)[-1])) < 1e-8
