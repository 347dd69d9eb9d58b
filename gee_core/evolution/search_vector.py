"""The vector in which evolution searches for a genotype, and back.

Its coordinates are log σ, and of every other gene the part of its range, from 0 to 1, on its scale. So one step size suits all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gee_core.config import NetworkConfig, Shape
from gee_core.config.genes import GENES, SETTINGS, Gene, check_genes, with_genes
from gee_core.errors import InputError
from gee_core.evolution.candidate import Price
from gee_core.evolution.price import Allowance, most_genes
from gee_core.genome.genotype import Genotype, configured_genotype


@dataclass(frozen=True)
class SearchSpace:
    """The genes that are searched, as ``config.genes.searched_genes`` names them, around ``start``, whose others are kept.

    ``sigma_O`` and ``sigma_0`` … are σ's of their own, ``sigma_X`` is one σ for all X_l. They lie between their start divided
    and multiplied by ``bound``. All other genes lie in the ranges of ``config.genes.GENES``, widened to ``start`` where it
    lies outside. ``network`` is needed where the structure is searched: every σ is then, at another width or number of
    genes, the analytic one times the factor that it has in ``start``. With an ``allowance`` that solves the width, this is none
    of ``genes``: each genotype has the greatest that the budget allows. Its genes are no more numbers than their weights.

    Raises:
        InputError: a gene is unknown, has no value in ``start``, or has no effect because another sets the same σ's.
    """

    genes: tuple[str, ...]
    start: Genotype
    bound: float
    network: NetworkConfig | None = None
    allowance: Allowance | None = None

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
        if self.allowance and "T" in others:
            others["T"] = min(others["T"], self.allowance.limits.get("steps", others["T"]))
        shape = {gene: value for gene, value in others.items() if gene in Shape.model_fields}
        sigma_X = [sigmas.get(f"sigma_{layer}", sigmas.get("sigma_X", s)) for layer, s in enumerate(self.start.sigma_X)]
        drawn = replace(
            self.start,
            sigma_O=sigmas.get("sigma_O", self.start.sigma_O),
            sigma_X=tuple(sigma_X),
            shape=Shape(**(self.start.shape.model_dump() | shape)) if shape else self.start.shape,
        )
        return self.fitted(self._restructured(drawn, others))

    def fitted(self, genotype: Genotype, factor: float = 1.0) -> Genotype:
        """``genotype`` with the greatest width that the budget allows, where the width is solved.

        ``factor`` is by how much a training changes the energy that is counted before it.
        """
        if self.allowance is None or self.network is None or not self.allowance.solves_width:
            return genotype
        return self.allowance.widest(lambda width: self.at_width(genotype, width), self.network.width, factor)

    def price(self, genotype: Genotype, factor: float = 1.0) -> Price | None:
        """The price of ``genotype`` before it is trained, its energy times ``factor``. None where there is no budget."""
        if self.allowance is None:
            return None
        price = self.allowance.price(genotype)
        return replace(price, energy_uj=price.energy_uj * factor)

    def at_width(self, genotype: Genotype, width: float) -> Genotype:
        """``genotype`` at another width. Its genes become no more numbers than the weights that they encode."""
        assert self.network is not None
        settings = dict(genotype.settings) | {"width": width}
        if "n_genes" in settings:
            settings["n_genes"] = max(1, min(settings["n_genes"], most_genes(with_genes(self.network, settings))))
        return self._restructured(genotype, settings)

    def _restructured(self, genotype: Genotype, values: Mapping[str, float]) -> Genotype:
        """``genotype`` with other ``values`` of its settings. Its σ's keep their factors to the analytic σ's."""
        other = replace(genotype, settings=tuple((name, values.get(name, value)) for name, value in genotype.settings))
        if self.network is None or not genotype.sigma_X:
            return other
        here, there = (configured_genotype(with_genes(self.network, dict(g.settings))) for g in (other, genotype))
        sigma_X = zip(genotype.sigma_X, here.sigma_X, there.sigma_X, strict=True)
        sigma_O = genotype.sigma_O * (here.sigma_O / there.sigma_O)
        return replace(other, sigma_O=sigma_O, sigma_X=tuple(s * (a / b) for s, a, b in sigma_X))

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
