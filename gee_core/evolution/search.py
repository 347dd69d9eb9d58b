"""The searches, which propose candidates: CMA-ES by ``cma`` (Eq. 10-12 are its own updates), and random draws, its control.

Their state is never stored. NumPy's global generator is not used. The start of the space is their first candidate.

Source of random search: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012.
"""

import warnings
from collections.abc import Sequence
from typing import Protocol

import cma
import numpy as np
from numpy.typing import ArrayLike

from gee_core.errors import InputError
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed


class Search(Protocol):
    """An optimiser for ``evolve``: any object with these members that depends on fixed seeds and on what it is told alone."""

    def ask(self) -> Sequence[ArrayLike]:
        """A generation: vectors (n,), in the order of ``space.genes``, within ``space.bounds()`` or moved onto these."""

    def tell(self, vectors: Sequence[ArrayLike], costs: Sequence[float]) -> None:
        """Learn the costs, minimised, of the ``vectors`` that ``ask`` returned.

        The cost of a candidate is its fitness. Those that are dead or outside of the budget cost more than all that have one. A
        candidate that failed costs NaN.
        """

    @property
    def mean(self) -> ArrayLike | None:
        """The favourite vector, (n,), which `evolve.rescore` scores too. None where the search has none."""
        return None

    @property
    def state(self) -> dict[str, float]:
        """By column, the distribution that the last generation was drawn from. Empty where none moves."""
        return {}


def genotypes_of(vectors: Sequence[ArrayLike], space: SearchSpace, source: str) -> list[Genotype]:
    """The genotypes of what the member ``source`` of a search returned. InputError if this is not vectors (n,) of the space."""
    n, remedy = len(space.genes), f"give flat vectors of finite numbers, one for each of {', '.join(space.genes)}"
    if not vectors:
        raise InputError(f"search: {source} returned an empty generation", remedy)
    for x in vectors:
        if np.shape(x) != (n,):
            raise InputError(f"search: {source} returned {np.size(x)} coordinates, the space has {n} genes", remedy)
        if not np.isfinite(np.asarray(x, dtype=float)).all():
            raise InputError(f"search: {source} returned {np.asarray(x).tolist()}, which is not finite", remedy)
    return [space.genotype(np.asarray(x)) for x in vectors]


class RandomSearch(Search):
    """The start, then uniform draws within the bounds."""

    def __init__(self, space: SearchSpace, population_size: int, seed: int):
        self._random = np.random.RandomState(derive_seed(seed, "random_search") % 2**32)
        self._bounds, self._population_size, self._first = space.bounds(), population_size, [space.start_vector()]

    def ask(self) -> list[np.ndarray]:
        first, self._first = self._first, []
        return [*first, *self._random.uniform(*self._bounds, (self._population_size - len(first), len(self._bounds[0])))]

    def tell(self, vectors: Sequence[ArrayLike], costs: Sequence[float]) -> None:
        """Learns nothing."""


class CmaEs:
    """CMA-ES, with the standard deviation ``step`` in every direction at first: ``cma`` keeps it at a third of the range.

    Failed candidates (NaN) rank last. Where all failed nothing is learned: the next generation is drawn from the same
    distribution.
    """

    def __init__(self, space: SearchSpace, step: float, population_size: int, seed: int):
        start, genes = space.start_vector(), space.genes
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
        with warnings.catch_warnings(action="ignore"):
            self._es = cma.CMAEvolutionStrategy(start, step, options)
        self._columns = ["step_size", "axis_ratio", *(f"mean_{gene}" for gene in genes), *(f"std_{gene}" for gene in genes)]
        self.state: dict[str, float] = {}

    def ask(self) -> list[np.ndarray]:
        """Draws from the distribution, as ``Search.ask``."""
        es = self._es
        with warnings.catch_warnings(action="ignore"):
            if es.countiter == 0:
                es.inject([es.mean], force=True)  # the start as cma sees it, also where it lies on a bound
            asked = es.ask()
        state = [es.sigma, es.condition_number**0.5, *self.mean, *es.stds]  # before draws are folded into the bounds
        self.state = dict(zip(self._columns, map(float, state), strict=True))
        return list(asked)

    def tell(self, vectors: Sequence[ArrayLike], costs: Sequence[float]) -> None:
        """Moves the distribution, as ``Search.tell``."""
        F = np.asarray(costs, dtype=float)
        if np.isfinite(F).any():
            with warnings.catch_warnings(action="ignore"):
                self._es.tell(list(vectors), np.where(np.isnan(F), np.nanmax(F) + 1.0, F).tolist())

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self._es.result.xfavorite)
