"""The vector of log σ in which CMA-ES searches for a genotype, and back."""

from collections.abc import Sequence

import numpy as np

from gee_core.genome.genotype import Genotype


def to_vector(genotype: Genotype, form: str) -> np.ndarray:
    """The search vector, in log σ: (2 + L,) for ``per_layer``; (2,) for ``shared``, with the geometric mean of the σ_l."""
    log_X = np.log(genotype.sigma_X)
    return np.array([np.log(genotype.sigma_O), *(log_X if form == "per_layer" else [log_X.mean()])])


def from_vector(vector: Sequence[float] | np.ndarray, form: str, n_encodings: int) -> Genotype:
    """The genotype of a search vector; ``n_encodings`` = L + 1."""
    sigma_O, *sigma_X = np.exp(np.asarray(vector, dtype=float)).tolist()
    return Genotype(sigma_O, tuple(sigma_X) if form == "per_layer" else tuple(sigma_X) * n_encodings)
