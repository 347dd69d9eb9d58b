"""CMA-ES, and how it ranks what failed."""

import math
from types import SimpleNamespace

import cma
import numpy as np
import pytest

from gee_core.evolution.search import CmaEs
from tests.gee_core.evolution.made_up import config

NAN = math.nan


def space(start, half_width):
    genes = [f"gene_{i}" for i in range(len(start))]
    return SimpleNamespace(genes=genes, start_vector=lambda: start, bounds=lambda: (start - half_width, start + half_width))


def search(n=5, population_size=8, seed=0, step=0.3, half_width=2.0):
    return CmaEs(space(np.linspace(-1, 1, n), half_width), step, population_size, seed)


def quadratic(x):
    """Least, and 0, at 0.5 in every direction; ill-conditioned."""
    return sum(10**i * (v - 0.5) ** 2 for i, v in enumerate(x))


def run(es, n_generations: int, f=quadratic) -> list[np.ndarray]:
    """What a fresh search asked for in so many generations."""
    asked = []
    for _ in range(n_generations):
        vectors = es.ask()
        asked.append(np.array(vectors))
        es.tell(vectors, [f(x) for x in vectors])
    return asked


def test_the_seed_alone_decides_what_is_asked_and_numpys_generator_stays():
    np.random.seed(1)
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    first = run(search(), 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert np.random.get_state()[2] == before[1]
    np.testing.assert_allclose(first[0][0], np.linspace(-1, 1, 5), rtol=1e-12)
    assert not any(np.allclose(x, first[0][0]) for x in [*first[0][1:], *first[1]])
    np.random.seed(2)
    np.testing.assert_array_equal(run(search(), 3), first)
    assert not np.array_equal(run(search(seed=1), 3)[0][1:], first[0][1:])


@pytest.mark.parametrize("n", [2, 37])
def test_the_default_population_is_that_of_cma_es(n):
    assert config(population_size=None).population(n) == cma.CMAEvolutionStrategy(np.zeros(n), 0.3, {"verbose": -9}).popsize


def test_the_state_describes_what_is_drawn():
    es = search(population_size=1000)
    run(es, 3)
    asked, state = es.ask(), es.state
    means, stds = ([state[f"{what}_gene_{i}"] for i in range(5)] for what in ("mean", "std"))
    np.testing.assert_allclose(np.mean(asked, axis=0), means, atol=0.03)
    np.testing.assert_array_equal(es.mean, means)
    np.testing.assert_allclose(np.std(asked, axis=0), stds, rtol=0.15)
    assert list(state)[:2] == ["step_size", "axis_ratio"] and state["axis_ratio"] > 1.5


@pytest.mark.parametrize(("n", "step", "half_width"), [(5, 3.0, 0.5), (1, 0.3, 0.2), (1, 0.3, 1.0)])
def test_candidates_are_drawn_up_to_the_bounds_and_one_gene_finds_the_least(n, step, half_width):
    start = np.linspace(-1, 1, n)
    off = abs(np.concatenate(run(search(n, step=step, half_width=half_width), 12, lambda x: -abs(x - start).sum())) - start)
    assert off.max() <= half_width + 1e-12 and off.max() > 0.9 * half_width
    if n == 1:
        best = run(search(1, step=0.01, half_width=half_width), 40, lambda x: (x[0] + 1 - half_width / 2) ** 2)[-1]
        assert abs(best + 1 - half_width / 2).min() < 1e-4


def ranked(*values) -> np.ndarray:
    """The second generation, after the first (of six) had these costs."""
    es = search(population_size=6)
    es.tell(es.ask(), values)
    return np.array(es.ask())


@pytest.mark.parametrize(
    ("told", "ranked_as"),
    [
        ((2, NAN, 1, 0, 5, 4), (2, 6, 1, 0, 5, 4)),
        ((-2, NAN, -1, -9, -5, -4), (-2, 0, -1, -9, -5, -4)),
        ((3, *[NAN] * 5), (0, *[1] * 5)),
    ],
)
def test_failures_rank_behind_all_others(told, ranked_as):
    np.testing.assert_array_equal(ranked(*told), ranked(*ranked_as))
    assert not np.array_equal(ranked(*told), ranked(2, 3, 1, 0, 5, 4))


@pytest.mark.parametrize(("n", "learned"), [(1, 0), (5, 0), (5, 3)])
def test_a_generation_of_failures_leaves_the_distribution_as_it_is(n, learned):
    es = search(n)
    run(es, learned)
    asked, before = es.ask(), es.state
    for _ in range(3):
        es.tell(asked, [NAN] * 8)
        again, state = es.ask(), es.state
        assert state == before
        assert not np.isclose(again[1:], asked[1:]).any()
        assert np.allclose(again[0], asked[0]) == (learned == 0)  # the start has not been scored yet
    again = run(es, 200)[-1]
    assert es.state != before and min(map(quadratic, again)) < 1e-8
