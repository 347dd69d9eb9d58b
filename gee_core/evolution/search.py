"""What proposes the candidates of a search: CMA-ES by ``cma`` (Eq. 10-12 are its own updates), NSGA-II by ``pymoo`` where there
are several objectives, or random draws, the control of both.

The state of a search is never stored. It depends on what was told alone, bit for bit, so a resumed evolution replays its
records.

Source of random search: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import cma
import numpy as np

from gee_core.evolution.candidate import SearchState
from gee_core.seeding import derive_seed


class Search(Protocol):
    """Minimises a function of a vector within bounds; ``ask`` and ``tell`` take turns."""

    def state(self) -> SearchState | None:
        """The distribution after what was told last, from which ``ask`` draws; None where no distribution moves."""

    def ask(self) -> list[np.ndarray]:
        """The next generation's candidates, each (n,)."""

    def tell(self, values: Sequence[Any]) -> None:
        """Learn the fitness of the candidates last asked for, in their order. NaN, a failed candidate, ranks last.

        Of several objectives: of every candidate its objectives, and at the end how far it is outside of the budget.
        """


class CmaEs:
    """CMA-ES.

    Args:
        start: the centre of the initial distribution, (n,), and also the first candidate of the first generation.
        step: initial standard deviation in every direction, which ``cma`` keeps at a third of the range or less where n > 1.
        bounds: the least and the greatest value of every coordinate, each (n,).
        population_size: candidates per generation.
        seed: of all draws; NumPy's global generator is not used.
    """

    def __init__(self, start: np.ndarray, step: float, bounds: tuple[np.ndarray, np.ndarray], population_size: int, seed: int):
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

    def state(self) -> SearchState:
        """As of ``Search``."""
        es = self._es
        mean, stds = np.array(es.result.xfavorite).tolist(), es.stds.tolist()
        return SearchState(float(es.sigma), float(es.condition_number**0.5), tuple(mean), tuple(stds))

    def ask(self) -> list[np.ndarray]:
        """As of ``Search``."""
        with warnings.catch_warnings(action="ignore"):
            if self._es.countiter == 0:
                self._es.inject([self._es.mean], force=True)  # the start as cma sees it, also where it lies on a bound
            self._asked = self._es.ask()
        return [np.array(x) for x in self._asked]

    def tell(self, values: Sequence[float]) -> None:
        """As of ``Search``. Where all failed nothing is learned: ``ask`` draws from the same distribution again."""
        found = np.asarray(values, dtype=float)
        if not np.isfinite(found).any():
            return
        worst = np.nanmax(found)
        with warnings.catch_warnings(action="ignore"):
            self._es.tell(self._asked, np.where(np.isnan(found), worst + 1.0, found).tolist())


class RandomSearch:
    """The start, then uniform draws within bounds; the arguments are those of ``CmaEs``. What it is told changes nothing."""

    def __init__(self, start: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], population_size: int, seed: int):
        self._first = [start]
        self._random = np.random.RandomState(derive_seed(seed, "random_search") % 2**32)
        self._bounds, self._size = bounds, population_size

    def ask(self) -> list[np.ndarray]:
        """As of ``Search``."""
        low, high = self._bounds
        first, self._first = self._first, []
        return [*first, *self._random.uniform(low, high, (self._size - len(first), len(low)))]

    def tell(self, values: Sequence[Any]) -> None:
        """Learn nothing."""

    def state(self) -> None:
        """No distribution to describe."""


class Nsga2(RandomSearch):
    """NSGA-II with ``pymoo``'s own operators; its first generation is that of random search.

    The arguments are those of ``CmaEs``; ``n_objectives`` is the number of values before the excess that ``tell`` is told.
    """

    def __init__(
        self, start: np.ndarray, n_objectives: int, bounds: tuple[np.ndarray, np.ndarray], population_size: int, seed: int
    ):
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        super().__init__(start, bounds, population_size, seed)
        problem = Problem(n_var=len(start), n_obj=n_objectives, n_ieq_constr=1, xl=bounds[0], xu=bounds[1])
        self._nsga2 = NSGA2(pop_size=population_size, sampling=np.array(super().ask()))
        self._nsga2.setup(problem, termination=NoTermination(), seed=derive_seed(seed, "nsga2") % 2**32, verbose=False)

    def ask(self) -> list[np.ndarray]:
        """As of ``Search``."""
        self._asked = self._nsga2.ask()
        return list(self._asked.get("X"))

    def tell(self, values: Sequence[Any]) -> None:
        """As of ``Search``. What failed ranks behind all that is outside of the budget, and this behind all within."""
        found = np.asarray(values, dtype=float)
        points, excess = found[:, :-1], found[:, -1:]
        failed = np.isnan(points).any(axis=1, keepdims=True) & (excess == 0)
        worst = np.nanmax(np.where(np.isfinite(points), points, 0.0))
        self._asked.set("F", np.where(np.isnan(points), worst + 1.0, points))
        self._asked.set("G", np.where(failed, excess.max() + 1.0, excess))
        self._nsga2.tell(infills=self._asked)
