"""CMA-ES by ``cma`` (Eq. 10-12 are its own updates): ask for a generation, tell its fitness.

The state of a search is never stored. It depends on what was told alone, bit for bit, so a resumed evolution replays its
records.
"""

import importlib.util
import warnings
from collections.abc import Sequence

import numpy as np

from gee_core.evolution.candidate import SearchState
from gee_core.seeding import derive_seed

if importlib.util.find_spec("cma") is None:  # it is imported where a search starts, because that takes a second
    raise ModuleNotFoundError("No module named 'cma'", name="cma")


class Search:
    """Minimises a function of a vector within bounds.

    Args:
        start: the centre of the initial distribution, (n,), and also the first candidate of the first generation.
        step: initial standard deviation, the same in every direction; in two dimensions and more, ``cma`` keeps that of each
            coordinate, at first and later, at a third of the distance of its bounds or less.
        bounds: the least and the greatest value of every coordinate, each (n,).
        population_size: candidates per generation.
        seed: of all draws; NumPy's global generator is not used.
    """

    def __init__(self, start: np.ndarray, step: float, bounds: tuple[np.ndarray, np.ndarray], population_size: int, seed: int):
        import cma

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

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution after what was told last, (n,)."""
        return np.array(self._es.result.xfavorite)

    def state(self) -> SearchState:
        """The distribution from which ``ask`` drew last."""
        es = self._es
        return SearchState(float(es.sigma), float(es.condition_number**0.5), tuple(self.mean.tolist()), tuple(es.stds.tolist()))

    def ask(self) -> list[np.ndarray]:
        """The next generation's candidates, each (n,)."""
        with warnings.catch_warnings(action="ignore"):
            if self._es.countiter == 0:
                self._es.inject([self._es.mean], force=True)  # the start as cma sees it, also where it lies on a bound
            self._asked = self._es.ask()
        return [np.array(x) for x in self._asked]

    def tell(self, values: Sequence[float]) -> None:
        """Learn the fitness of the candidates last asked for, in their order. NaN, a failed candidate, ranks last.

        Where all failed nothing is learned: ``ask`` draws from the same distribution again.
        """
        found = np.asarray(values, dtype=float)
        if not np.isfinite(found).any():
            return
        worst = np.nanmax(found)
        with warnings.catch_warnings(action="ignore"):
            self._es.tell(self._asked, np.where(np.isnan(found), worst + 1.0, found).tolist())
