"""The vector in which evolution searches for a genotype, and back.

Its coordinates: log σ and log γ; β/2; and ω, α, κ, ρ and the slope themselves. So one step size suits all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gee_core.config import Shape
from gee_core.config.shape import SEARCH_RANGES
from gee_core.errors import InputError, did_you_mean
from gee_core.genome.genotype import Genotype

UNIT = {"beta": 2.0}
"""What a coordinate of 1 is worth, where it is not 1."""


@dataclass(frozen=True)
class SearchSpace:
    """The genes that are searched, ``config.shape.searched_genes``, around ``start``, whose other genes are kept.

    ``sigma_O`` and ``sigma_0`` … are σ's of their own; ``sigma_X`` is one σ for all X_l, and ``sigma`` a factor on those of
    ``start``. They lie between their start divided and multiplied by ``bound``. Genes of shape lie in
    ``config.shape.SEARCH_RANGES``, which are widened to ``start`` where it lies outside.

    Raises:
        InputError: a gene is unknown, or has no effect because another sets the same σ's.
    """

    genes: tuple[str, ...]
    start: Genotype
    bound: float

    def __post_init__(self) -> None:
        of_layers = [f"sigma_{layer}" for layer in range(len(self.start.sigma_X))]
        known = ["sigma", "sigma_O", "sigma_X", *of_layers, *SEARCH_RANGES]
        for gene in self.genes:
            if gene not in known:
                remedy = did_you_mean(str(gene), known) or f"they are {', '.join(known)}"
                raise InputError(f"genes: {gene!r} is none of a network with {len(of_layers)} encodings", remedy)
        if len({"sigma", "sigma_X"} & set(self.genes)) + set(of_layers).issubset(self.genes) > 1:
            raise InputError(f"genes = {self.genes}: more than one would set all σ_l", "leave out sigma or sigma_X")

    def start_vector(self) -> np.ndarray:
        """The coordinates of ``start``, (n,)."""
        return np.array([self._start(gene) for gene in self.genes])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest value of every coordinate, each (n,)."""
        pairs = [self._bounds(gene) for gene in self.genes]
        return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])

    def genotype(self, vector: Sequence[float] | np.ndarray) -> Genotype:
        """The genotype of a vector; coordinates outside the bounds, as rounding leaves them, are moved onto them."""
        values = dict(zip(self.genes, np.clip(vector, *self.bounds()).tolist(), strict=True))
        sigmas = {gene: math.exp(values[gene]) for gene in self.genes if gene.startswith("sigma")}
        shape = {gene: _from_coordinate(gene, values[gene]) for gene in self.genes if gene not in sigmas}
        factor, common = sigmas.get("sigma", 1.0), sigmas.get("sigma_X")
        sigma_X = [sigmas.get(f"sigma_{layer}", common or factor * s) for layer, s in enumerate(self.start.sigma_X)]
        return Genotype(
            sigmas.get("sigma_O", self.start.sigma_O),
            tuple(sigma_X),
            Shape(**(self.start.shape.model_dump() | shape)) if shape else self.start.shape,
        )

    def _start(self, gene: str) -> float:
        if gene == "sigma":
            return 0.0
        if gene == "sigma_O":
            return math.log(self.start.sigma_O)
        if gene == "sigma_X":
            return float(np.log(self.start.sigma_X).mean())
        if gene.startswith("sigma_"):
            return math.log(self.start.sigma_X[int(gene.removeprefix("sigma_"))])
        return _to_coordinate(gene, getattr(self.start.shape, gene))

    def _bounds(self, gene: str) -> tuple[float, float]:
        if gene.startswith("sigma"):
            centre, half_width = self._start(gene), math.log(self.bound)
            return centre - half_width, centre + half_width
        start, (low, high) = self._start(gene), (_to_coordinate(gene, value) for value in SEARCH_RANGES[gene])
        return min(low, start), max(high, start)


def _to_coordinate(gene: str, value: float) -> float:
    return math.log(value) if gene.startswith("gamma") else value / UNIT.get(gene, 1.0)


def _from_coordinate(gene: str, coordinate: float) -> float:
    return math.exp(coordinate) if gene.startswith("gamma") else coordinate * UNIT.get(gene, 1.0)
