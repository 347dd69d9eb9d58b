"""The vector in which evolution searches for a genotype, and back.

Its coordinates are log σ, and of every other gene the part of its range, from 0 to 1, on its scale. So one step size suits all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gee_core.config import NetworkConfig, Shape
from gee_core.config.genes import GENES, SETTINGS, STRUCTURE, Gene, check_genes, with_genes
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype, configured_genotype


@dataclass(frozen=True)
class SearchSpace:
    """The genes that are searched, as ``config.genes.searched_genes`` names them, around ``start``, whose others are kept.

    ``sigma_O`` and ``sigma_0`` … are σ's of their own, ``sigma_X`` is one σ for all X_l. They lie between their start divided
    and multiplied by ``bound``. All other genes lie in the ranges of ``config.genes.GENES``, widened to ``start`` where it
    lies outside. ``network`` is needed where the structure is searched: every σ is then, at another width or number of
    genes, the analytic one times the factor that it has in ``start``. ``most_genes`` of a structure, if it is known, is how
    many genes fit into the budget: a candidate gets no more of them, where the range allows it.

    Raises:
        InputError: a gene is unknown, has no value in ``start``, or has no effect because another sets the same σ's.
    """

    genes: tuple[str, ...]
    start: Genotype
    bound: float
    network: NetworkConfig | None = None
    most_genes: Callable[[NetworkConfig], int] | None = None

    def __post_init__(self) -> None:
        check_genes(self.genes)
        known = self.start.as_dict()
        for name in self.genes:
            if name not in known and name != "sigma_X":
                owner = f"a network with {len(self.start.sigma_X)} encodings" if name.startswith("sigma") else "the start"
                raise InputError(f"genes: {name!r} is none of {owner}", "leave it out, or give the start a value of it")
            if name in SETTINGS and not known[name] > 0:
                least = f"genes: {name} is {known[name]:g}: a search on a logarithmic scale cannot start there"
                raise InputError(least, f"set it to {GENES[name].low:g}, or leave {name} out of genes")

    def start_vector(self) -> np.ndarray:
        """The coordinates of ``start``, (n,)."""
        return np.array([self._start(gene) for gene in self.genes])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest value of every coordinate, each (n,)."""
        pairs = [self._bounds(gene) for gene in self.genes]
        return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])

    def genotype(self, vector: Sequence[float] | np.ndarray) -> Genotype:
        """The genotype of a vector. Coordinates outside the bounds, as rounding leaves them, are moved onto them."""
        coordinates = dict(zip(self.genes, np.clip(vector, *self.bounds()).tolist(), strict=True))
        sigmas = {gene: math.exp(value) for gene, value in coordinates.items() if gene.startswith("sigma")}
        others = {gene: self._value(gene, value) for gene, value in coordinates.items() if gene not in sigmas}
        if self.most_genes and self.network and "n_genes" in others:
            least = min(others["n_genes"], self._value("n_genes", 0.0))
            others["n_genes"] = max(least, min(others["n_genes"], self.most_genes(with_genes(self.network, others))))
        shape = {gene: value for gene, value in others.items() if gene in Shape.model_fields}
        sigma_X = [sigmas.get(f"sigma_{layer}", sigmas.get("sigma_X", s)) for layer, s in enumerate(self.start.sigma_X)]
        genotype = replace(
            self.start,
            sigma_O=sigmas.get("sigma_O", self.start.sigma_O),
            sigma_X=tuple(sigma_X),
            shape=Shape(**(self.start.shape.model_dump() | shape)) if shape else self.start.shape,
            settings=tuple((name, others.get(name, value)) for name, value in self.start.settings),
        )
        return self._rewired(genotype) if self.start.sigma_X and set(STRUCTURE) & set(self.genes) else genotype

    def _rewired(self, genotype: Genotype) -> Genotype:
        """``genotype`` with σ's for its structure: they have the factors to the analytic σ's that the start has."""
        assert self.network is not None
        here, there = (configured_genotype(with_genes(self.network, dict(g.settings))) for g in (genotype, self.start))
        sigma_X = zip(genotype.sigma_X, here.sigma_X, there.sigma_X, strict=True)
        sigma_O = genotype.sigma_O * (here.sigma_O / there.sigma_O)
        return replace(genotype, sigma_O=sigma_O, sigma_X=tuple(s * (a / b) for s, a, b in sigma_X))

    def _start(self, name: str) -> float:
        """The coordinate of a gene of ``start``."""
        if name == "sigma_X":
            return float(np.log(self.start.sigma_X).mean())
        value = self.start.as_dict()[name]
        if name.startswith("sigma"):
            return math.log(value)
        gene, low, high = self._range(name)
        return (gene.scaled(value) - low) / (high - low)

    def _range(self, name: str) -> tuple[Gene, float, float]:
        """A gene that is no σ, and its least and greatest value here, scaled."""
        gene = GENES[name]
        unit = self.start.as_dict()[name] if gene.relative else 1.0
        return gene, gene.scaled(gene.low * unit), gene.scaled(min(gene.high * unit, gene.most))

    def _value(self, name: str, coordinate: float) -> float:
        gene, low, high = self._range(name)
        scaled = low + coordinate * (high - low)
        value = math.exp(scaled) if gene.log else scaled
        if gene.integer:
            return max(1, round(value))
        return float(f"{value:.6g}") if name in SETTINGS else value  # a start comes back as it is written

    def _bounds(self, name: str) -> tuple[float, float]:
        start = self._start(name)
        if name.startswith("sigma"):
            return start - math.log(self.bound), start + math.log(self.bound)
        return min(0.0, start), max(1.0, start)
