"""The searches, which propose candidates: CMA-ES by ``cma`` (Eq. 10-12 are its own updates), NSGA-II by ``pymoo`` where there
are several objectives, or random draws, the control of both.

The state of a search is never stored. It depends on what was told alone, bit for bit, so a resumed evolution replays its
records.

Source of random search: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012.
"""

import warnings
from collections.abc import Sequence

import cma
import numpy as np

from gee_core.evolution.candidate import SearchState
from gee_core.seeding import derive_seed

Bounds = tuple[np.ndarray, np.ndarray]
"""The least and the greatest value of every coordinate, each (n,)."""

Told = Sequence[tuple[float, ...]]
"""Of every candidate its objectives, then how far it is outside of the budget."""


class RandomSearch:
    """The start, then uniform draws within ``bounds``.

    Args:
        start: the first candidate of the first generation, (n,).
        bounds: of the draws.
        population_size: candidates per generation.
        seed: of all draws. NumPy's global generator is not used.
    """

    def __init__(self, start: np.ndarray, bounds: Bounds, population_size: int, seed: int):
        self._first = [start]
        self._random = np.random.RandomState(derive_seed(seed, "random_search") % 2**32)
        self._bounds, self._size = bounds, population_size

    def ask(self) -> list[np.ndarray]:
        """The next generation's candidates, each (n,). ``ask`` and ``tell`` take turns."""
        low, high = self._bounds
        first, self._first = self._first, []
        return [*first, *self._random.uniform(low, high, (self._size - len(first), len(low)))]

    def tell(self, points: Told) -> None:
        """Learn the values of the candidates last asked for, in their order: here nothing is learned."""

    def state(self) -> SearchState | None:
        """The distribution after what was told last, from which ``ask`` draws, or None where no distribution moves."""
        return None


class Nsga2(RandomSearch):
    """NSGA-II with ``pymoo``'s own operators. Its first generation is that of random search.

    The arguments are those of ``RandomSearch``. ``n_objectives`` is the number of objectives that ``tell`` is told.
    """

    def __init__(self, start: np.ndarray, n_objectives: int, bounds: Bounds, population_size: int, seed: int):
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        super().__init__(start, bounds, population_size, seed)
        problem = Problem(n_var=len(start), n_obj=n_objectives, n_ieq_constr=1, xl=bounds[0], xu=bounds[1])
        self._nsga2 = NSGA2(pop_size=population_size, sampling=np.array(super().ask()))
        self._nsga2.setup(problem, termination=NoTermination(), seed=derive_seed(seed, "nsga2") % 2**32, verbose=False)

    def ask(self) -> list[np.ndarray]:
        """As of ``RandomSearch``."""
        self._asked = self._nsga2.ask()
        return list(self._asked.get("X"))

    def tell(self, points: Told) -> None:
        """As of ``RandomSearch``. Failed candidates (NaN) rank after those outside of the budget, these after all within."""
        told = np.asarray(points, dtype=float)
        objectives, excess = told[:, :-1], told[:, -1:]
        failed = np.isnan(objectives).any(axis=1, keepdims=True) & (excess == 0)
        worst = np.nanmax(np.where(np.isfinite(objectives), objectives, 0.0))
        self._asked.set("F", np.where(np.isnan(objectives), worst + 1.0, objectives))
        self._asked.set("G", np.where(failed, excess.max() + 1.0, excess))
        self._nsga2.tell(infills=self._asked)


class CmaEs:
    """CMA-ES.

    Args:
        start: the centre of the initial distribution, (n,), and also the first candidate of the first generation.
        step: initial standard deviation in every direction, which ``cma`` keeps at a third of the range or less where n > 1.
        bounds: of the draws.
        population_size: candidates per generation.
        seed: of all draws. NumPy's global generator is not used.
    """

    def __init__(self, start: np.ndarray, step: float, bounds: Bounds, population_size: int, seed: int):
        random = np.random.RandomState(derive_seed(seed, "cma") % 2**32)
        options = {
            "seed": np.nan,  # else cma reseeds NumPy's global generator
            "randn": random.randn,
            "bounds": [list(side) for side in bounds],
            "popsize": population_size,
            "verbose": -9,
            "verb_disp": 0,
            "verb_log": 0,
        }
        if len(start) == 1:
            options["maxstd"] = np.inf  # cma's cap, a third of the range, raises an error in one dimension
        with warnings.catch_warnings(action="ignore"):
            self._es = cma.CMAEvolutionStrategy(np.array(start, dtype=float), step, options)
        self._asked: list[np.ndarray] | None = None

    def ask(self) -> list[np.ndarray]:
        """As of ``RandomSearch``."""
        with warnings.catch_warnings(action="ignore"):
            if self._es.countiter == 0:
                self._es.inject([self._es.mean], force=True)  # the start as cma sees it, also where it lies on a bound
            self._asked = self._es.ask()
        return [np.array(x) for x in self._asked]

    def tell(self, points: Told) -> None:
        """As of ``RandomSearch``. Candidates outside of the budget rank after those within, failed ones (NaN) last.

        Where all failed nothing is learned: ``ask`` draws from the same distribution again.
        """
        F, excess = np.asarray(points, dtype=float).T
        worst = np.max(F[(excess == 0) & ~np.isnan(F)], initial=-np.inf)
        values = np.where(excess > 0, (worst + 1.0 if np.isfinite(worst) else 0.0) + excess, F)
        if not np.isfinite(values).any():
            return
        with warnings.catch_warnings(action="ignore"):
            self._es.tell(self._asked, np.where(np.isnan(values), np.nanmax(values) + 1.0, values).tolist())

    def state(self) -> SearchState:
        """As of ``RandomSearch``."""
        es = self._es
        mean, stds = np.array(es.result.xfavorite).tolist(), es.stds.tolist()
        return SearchState(float(es.sigma), float(es.condition_number**0.5), tuple(mean), tuple(stds))
