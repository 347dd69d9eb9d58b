"""The genotype: the standard deviations of the initial wiring, and the vector in which CMA-ES searches them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Genotype:
    """σ_O and σ_0 … σ_L: standard deviations of O and of every X_l before truncation (Eq. 9)."""

    sigma_O: float
    sigma_X: tuple[float, ...]

    def as_dict(self) -> dict[str, float]:
        """{"sigma_O": …, "sigma_0": …, …}."""
        return {"sigma_O": self.sigma_O} | {f"sigma_{layer}": sigma for layer, sigma in enumerate(self.sigma_X)}


def to_vector(genotype: Genotype, form: str) -> np.ndarray:
    """The search vector, in log σ: (2 + L,) for ``per_layer``; (2,) for ``shared``, with the geometric mean of the σ_l."""
    log_X = np.log(genotype.sigma_X)
    return np.array([np.log(genotype.sigma_O), *(log_X if form == "per_layer" else [log_X.mean()])])


def from_vector(vector: Sequence[float], form: str, n_encodings: int) -> Genotype:
    """The genotype of a search vector; ``n_encodings`` = L + 1."""
    sigma_O, *sigma_X = np.exp(np.asarray(vector, dtype=float)).tolist()
    return Genotype(sigma_O, tuple(sigma_X) if form == "per_layer" else tuple(sigma_X) * n_encodings)
