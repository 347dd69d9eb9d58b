"""The searches, which propose candidates: CMA-ES by ``cma`` (Eq. 10-12 are its own updates), NSGA-II by ``pymoo`` where there
are several objectives, or random draws, the control of both.

A search is a generator. It yields a generation, and is sent the values of its candidates, in their order. Its state is never
stored. It depends on what was sent alone, bit for bit, so a resumed evolution replays its records. NumPy's global generator is
not used. The start of the space is the first candidate of the first generation.

Source of random search: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012.
"""

import warnings
from collections.abc import Generator, Sequence

import cma
import numpy as np

from gee_core.evolution.search_vector import SearchSpace
from gee_core.seeding import derive_seed

Generation = tuple[list[np.ndarray], dict[str, float]]
"""Candidates, each (n,), and by column the distribution that they are drawn from, empty where none moves."""

Told = Sequence[tuple[float, ...]]
"""Of every candidate its objectives, then how far it is outside of the budget."""

Search = Generator[Generation, Told | None, None]


def random_search(space: SearchSpace, population_size: int, seed: int) -> Search:
    """The start, then uniform draws within the bounds."""
    random = np.random.RandomState(derive_seed(seed, "random_search") % 2**32)
    low, high = space.bounds()
    drawn = [space.start_vector(), *random.uniform(low, high, (population_size - 1, len(low)))]
    while True:
        yield drawn, {}
        drawn = list(random.uniform(low, high, (population_size, len(low))))


def nsga2(space: SearchSpace, n_objectives: int, population_size: int, seed: int) -> Search:
    """NSGA-II with ``pymoo``'s own operators. Its first generation is that of random search.

    Failed candidates (NaN) rank after those outside of the budget, these after all within.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination

    (first, _), (low, high) = next(random_search(space, population_size, seed)), space.bounds()
    problem = Problem(n_var=len(low), n_obj=n_objectives, n_ieq_constr=1, xl=low, xu=high)
    algorithm = NSGA2(pop_size=population_size, sampling=np.array(first))
    algorithm.setup(problem, termination=NoTermination(), seed=derive_seed(seed, "nsga2") % 2**32, verbose=False)
    while True:
        asked = algorithm.ask()
        told = np.asarray((yield list(asked.get("X")), {}), dtype=float)
        objectives, excess = told[:, :-1], told[:, -1:]
        failed = np.isnan(objectives).any(axis=1, keepdims=True) & (excess == 0)
        worst = np.nanmax(np.where(np.isfinite(objectives), objectives, 0.0))
        asked.set("F", np.where(np.isnan(objectives), worst + 1.0, objectives))
        asked.set("G", np.where(failed, excess.max() + 1.0, excess))
        algorithm.tell(infills=asked)


def cma_es(space: SearchSpace, step: float, population_size: int, seed: int) -> Search:
    """CMA-ES, with the standard deviation ``step`` in every direction at first: ``cma`` keeps it at a third of the range.

    Candidates outside of the budget rank after those within, failed ones (NaN) last. Where all failed nothing is learned: the
    next generation is drawn from the same distribution.
    """
    start = space.start_vector()
    options = {
        "seed": np.nan,  # else cma reseeds NumPy's global generator
        "randn": np.random.RandomState(derive_seed(seed, "cma") % 2**32).randn,
        "bounds": [list(side) for side in space.bounds()],
        "popsize": population_size,
        "verbose": -9,
        "verb_disp": 0,
        "verb_log": 0,
    }
    if len(start) == 1:
        options["maxstd"] = np.inf  # cma's cap, a third of the range, raises an error in one dimension
    columns = ["step_size", "axis_ratio", *(f"mean_{gene}" for gene in space.genes), *(f"std_{gene}" for gene in space.genes)]
    with warnings.catch_warnings(action="ignore"):
        es = cma.CMAEvolutionStrategy(start, step, options)
    while True:
        with warnings.catch_warnings(action="ignore"):
            if es.countiter == 0:
                es.inject([es.mean], force=True)  # the start as cma sees it, also where it lies on a bound
            asked = es.ask()
        # before draws are folded into the bounds
        state = [es.sigma, es.condition_number**0.5, *es.result.xfavorite, *es.stds]
        told = yield list(asked), dict(zip(columns, map(float, state), strict=True))
        F, excess = np.asarray(told, dtype=float).T
        worst = np.max(F[(excess == 0) & ~np.isnan(F)], initial=-np.inf)
        values = np.where(excess > 0, (worst + 1.0 if np.isfinite(worst) else 0.0) + excess, F)
        if np.isfinite(values).any():
            with warnings.catch_warnings(action="ignore"):
                es.tell(asked, np.where(np.isnan(values), np.nanmax(values) + 1.0, values).tolist())
