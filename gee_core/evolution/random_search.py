"""Random search: the control of CMA-ES, with as many candidates and the same fitness.

Source: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012.
"""

from collections.abc import Sequence

import numpy as np

from gee_core.seeding import derive_seed


class RandomSearch:
    """Draws vectors uniformly within bounds; what it is told changes nothing.

    Args:
        bounds: the least and the greatest value of every coordinate, each (n,).
        population_size: candidates per generation.
        seed: of all draws; NumPy's global generator is not used.
    """

    mean = None
    """It has no distribution that moves."""

    def __init__(self, bounds: tuple[np.ndarray, np.ndarray], population_size: int, seed: int):
        self._random = np.random.RandomState(derive_seed(seed, "random_search") % 2**32)
        self._bounds, self._size = bounds, population_size

    def ask(self) -> list[np.ndarray]:
        """The next generation's candidates, each (n,)."""
        low, high = self._bounds
        return list(self._random.uniform(low, high, (self._size, len(low))))

    def tell(self, values: Sequence[float]) -> None:
        """Learn nothing."""

    def state(self) -> None:
        """No distribution to describe."""
