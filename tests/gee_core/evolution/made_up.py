"""Evolutions whose scores are known beforehand: a configuration, a search space, and scoring functions."""

from collections.abc import Callable
from dataclasses import replace

from gee_core.config import NetworkConfig, SearchConfig
from gee_core.evolution.candidate import Candidate, Price, Score
from gee_core.evolution.price import Allowance
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype, configured_genotype
from tests.gee_core.test_config import values

ANALYTIC = Genotype(0.2, (0.1, 0.3, 0.4))
PER_LAYER = ("sigma_O", "sigma_0", "sigma_1", "sigma_2")
SPACE = SearchSpace(PER_LAYER, ANALYTIC, 4.0)


def area(genotype: Genotype) -> Price:
    """A price that is made up: the energy is the square of the width, times a threshold that is searched."""
    genes = dict(genotype.settings)
    return Price(1, 1, 1, genes["width"] ** 2 * genes.get("v_threshold", 1.0))


NETWORK = NetworkConfig(**values()["network"] | {"name": "vgg16", "width": 0.25, "n_genes": 12})
NARROWED = SearchSpace(
    ("v_threshold",),
    replace(configured_genotype(NETWORK), settings=(("v_threshold", 0.5), ("width", 0.25))),
    4.0,
    NETWORK,
    Allowance({"energy_uj": 0.01}, area, solves_width=True),
)
"""The threshold is searched, and the width is the greatest within a budget."""


def config(**changes) -> SearchConfig:
    """The settings of a small search, with ``changes``."""
    values = {"variant": "ste", "genes": ["wiring"], "n_generations": 4, "population_size": 5, "sigma": 0.3, "b": 0.2}
    return SearchConfig(**(values | changes))


def measured(L_ce: float, R_T: float = 0.0, R_S: float = 0.0, **others) -> Score:
    """A score with these numbers."""
    return Score(**({"L_ce": L_ce, "TSE": L_ce, "R_T": R_T, "var_o": 1.0, "R_S": R_S, "proxy_accuracy": 0.5} | others))


class Scorer:
    """``measure`` as a ``score_all``; notes the places that it was asked for, and answers in any order."""

    def __init__(self, measure: Callable[[Candidate], Score], order: Callable[[list], list] = lambda candidates: candidates):
        self.measure, self.order, self.scored = measure, order, []

    def __call__(self, candidates):
        assert candidates
        for c in self.order(list(candidates)):
            self.scored.append(c.place)
            yield c, self.measure(c), 1.5
