"""What a network costs, counted before it is trained, and the widest network that a budget allows.

Energy (Eq. 17) depends on firing rates, which training changes. Here they are those of the untrained network, with batch norm's
statistics of real images. docs/results/evolution.md has the difference to the trained network, which is a few percent.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gee_core.config import NetworkConfig
from gee_core.config.genes import with_genes
from gee_core.config.network import genes_and_weights
from gee_core.evolution.candidate import Price
from gee_core.genome.genotype import Genotype

IMAGES = 32
"""Number of training images on which the rates are counted."""

FULL = 0.97
"""The part of the budget from which on a network counts as filling it."""

TRIALS = 7
"""Widths that are tried at most."""

LEAST, MOST = 0.001, 2.0
"""The least width that is tried, and the greatest over that of the start."""

SIZES = ("parameters", "bytes", "energy_uj")
"""The costs that grow with the width."""


@dataclass(frozen=True)
class Allowance:
    """The budget of a search in numbers, and how the price of a network is counted."""

    limits: Mapping[str, float]
    """The greatest value of fields of ``Price``, by name."""
    price: Callable[[Genotype], Price]
    """Counts a network before it is trained."""
    solves_width: bool = False
    """Whether the width of a network is the greatest within the limits, and not a gene that is drawn."""

    def exceeded(self, price: Price) -> dict[str, float]:
        """By name the part, above 0, by which ``price`` is more than each limit."""
        values = asdict(price)
        return {name: over for name, most in self.limits.items() if (over := values[name] / most - 1) > 0}

    def widest(self, at: Callable[[float], Genotype], start: float, factor: float = 1.0) -> Genotype:
        """The genotype of the widest network within the limits, or of the narrowest if none is.

        Args:
            at: the genotype at a width, such as 0.125.
            start: the first width that is tried. The greatest is twice as wide.
            factor: energy after a training over energy counted before.
        """
        limits = {name: most for name, most in self.limits.items() if name in SIZES}
        if not limits:
            return at(start)
        factors, fits, over, width = {"energy_uj": factor}, 0.0, math.inf, start
        for _ in range(TRIALS):
            values = asdict(self.price(at(width)))
            used = max(values[name] * factors.get(name, 1.0) / most for name, most in limits.items())
            fits, over = (max(fits, width), over) if used <= 1 else (fits, min(over, width))
            guess = width * math.sqrt((1 + FULL) / 2 / used)  # most costs grow with the square of the width
            if not fits < guess < over:
                guess = math.sqrt(max(fits, LEAST) * min(over, MOST * start))
            guess = min(max(round(guess, 4), LEAST), MOST * start)
            if FULL <= used <= 1 or guess in (width, fits, over):
                break
            width = guess
        return at(fits or LEAST)


def most_genes(network: NetworkConfig, numbers: float = math.inf) -> int:
    """The largest g with which O and all X_l of the configured network are at most so many ``numbers``, or 0.

    They are never more than the weights that they encode.
    """
    of_one, of_weights = genes_and_weights(network.name, network.width, 1, network.tilt)
    linear, left = of_one - 1, math.floor(min(numbers, of_weights))  # g genes are g² + linear·g numbers
    return (math.isqrt(linear**2 + 4 * left) - linear) // 2 if left > 0 else 0


def pricing(network: NetworkConfig, prepared: Path, pj: tuple[float, float]) -> Callable[[Genotype], Price]:
    """A function that counts the ``Price`` of genotypes of the configured ``network`` before they are trained.

    Args:
        network: the section `network`, in which genes replace settings.
        prepared: the folder of the prepared images.
        pj: E_MAC and E_AC of Eq. 17 in pJ.
    """
    import torch  # here, since who only reads prices needs none

    from gee_core.data.prepared import load_prepared
    from gee_core.evaluation.energy import measure_energy
    from gee_core.gene_file import stored_bytes
    from gee_core.model.network import count_parameters
    from gee_core.model.wired import plain_parameters, wired_network
    from gee_core.training.statistics import renew_statistics

    data = load_prepared(prepared)
    meta, images = data.meta, data.proxy_train()
    batch, _ = next(images.subset(torch.linspace(0, len(images) - 1, IMAGES).long()).batches(IMAGES))
    x = meta.normalise(batch)

    @functools.cache
    def price(genotype: Genotype) -> Price:
        configured = with_genes(network, dict(genotype.settings))
        net = wired_network(configured, meta, genotype, seed=0)
        renew_statistics(net, [x])
        n, energy = count_parameters(net), 1000 * measure_energy(net, x).energy_mj(*pj)
        return Price(n, stored_bytes(net), net.T, energy, n / plain_parameters(configured, meta))

    return price
