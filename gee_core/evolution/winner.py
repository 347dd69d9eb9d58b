"""The candidate that wins: that of the least mean fitness over fresh draws, or else the best candidate of the search."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, geometric_mean

from gee_core.config import SearchConfig
from gee_core.evolution.candidate import MEAN, START, Candidate, Record
from gee_core.evolution.fitness import fitness
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed

HEADROOM = 1.03
"""Energy after a full training over that after a short one, at most, on the data sets of docs/results/evolution.md."""


def final_fitness(records: Sequence[Record], cfg: SearchConfig) -> list[float]:
    """F of every record at the last generation's λ, or NaN if it failed, is dead or outside of the budget.

    If all are dead, they are compared all the same.

    Paper: silent. Here: one λ for all, because λ falls from generation to generation: with their own λ, candidates of the
    first generation would win by their larger reward alone.
    """
    decay = records[-1].decay if records else 1.0
    values = [fitness(r.score, decay, cfg) for r in records]
    if all(map(math.isnan, values)):
        values = [fitness(replace(r.score, dead=False), decay, cfg) for r in records]
    return values


def candidates_to_rescore(
    records: Sequence[Record], mean: Genotype | None, cfg: SearchConfig, seed: int, space: SearchSpace
) -> list[Candidate]:
    """The best candidates of the search, its start, and the ``mean`` of its distribution, each on the same fresh seeds.

    The best are the best of each generation, the last generation first, then the second best of each, and so on. F does not say
    which generation was better, because each has a seed of its own. Of equal genotypes only the best is scored again.

    Under a budget they get the width with which the energy after a training fits. It is the counted energy times a factor, that
    of the candidate's own training, and for the ``mean`` that of the last generation.
    """
    if cfg.rescore is None:
        return []
    first, named = records[0], dict[Genotype, tuple[str, float]]()
    for r in _from_best_of_generations(records, cfg):
        if len(named) < cfg.rescore.top:
            label = START if r.candidate.genotype == first.candidate.genotype else r.candidate.label
            named.setdefault(r.candidate.genotype, (label, r.energy_factor))
    if named:
        named.setdefault(first.candidate.genotype, (START, first.energy_factor))
    if named and mean is not None:
        last = [r.energy_factor for r in records if r.candidate.generation == records[-1].candidate.generation]
        named.setdefault(mean, (MEAN, geometric_mean(last)))
    seeds = [derive_seed(seed, "rescore", draw) % 2**31 for draw in range(cfg.rescore.draws)]
    fitted = [(name, space.fitted(genotype, HEADROOM * factor), factor) for genotype, (name, factor) in named.items()]
    again = [(name, genotype, space.price(genotype, factor)) for name, genotype, factor in fitted]
    return [
        Candidate(cfg.n_generations, index, seed, genotype, price, name, draw)
        for index, ((name, genotype, price), (draw, seed)) in enumerate(itertools.product(again, enumerate(seeds)))
    ]


def fresh_fitness(records: Sequence[Record], cfg: SearchConfig) -> dict[str, list[float]]:
    """F of every fresh draw, by ``Candidate.rescored``. Candidates of which a draw failed are left out."""
    draws: dict[str, list[float]] = {}
    for record, value in zip(records, final_fitness(records, cfg), strict=True):
        if record.candidate.rescored:
            draws.setdefault(record.candidate.rescored, []).append(value)
    return {name: values for name, values in draws.items() if not any(map(math.isnan, values))}


def winner(records: Sequence[Record], cfg: SearchConfig) -> Record:
    """The best draw of the candidate with the lowest mean F over fresh draws, or else the best candidate of the search.

    Paper: the best candidate. Here: fresh draws decide, because the least of many noisy values is that of a lucky draw. A
    candidate that fails on a fresh draw cannot win. If all fail, the winner of the search stands.

    Args:
        records: all that ``evolve`` returned.
        cfg: the configuration of that search.

    Returns:
        The record of the winner.

    Raises:
        ValueError: every candidate failed.
    """
    fresh = fresh_fitness(records, cfg)
    ranked = _from_best(records, cfg, min(fresh, key=lambda name: fmean(fresh[name]), default=""))
    if not ranked:
        raise ValueError(f"all {len(records)} candidates failed; the first: {records[0].score.status}")
    return ranked[0]


def _from_best_of_generations(records: Sequence[Record], cfg: SearchConfig) -> list[Record]:
    """The records of the search by their place in their generation. Of equal places the last generation is first."""
    generations: dict[int, list[Record]] = {}
    for r in _from_best(records, cfg):
        generations.setdefault(r.candidate.generation, []).append(r)
    places = [(place, -generation, r) for generation, ranked in generations.items() for place, r in enumerate(ranked)]
    return [r for *_, r in sorted(places, key=lambda place: place[:2])]


def _from_best(records: Sequence[Record], cfg: SearchConfig, rescored: str = "") -> list[Record]:
    """The records of the search, or of the fresh draws of ``rescored``, best first. Records without F are left out."""
    pairs = zip(final_fitness(records, cfg), records, strict=True)
    ranked = [(F, r) for F, r in pairs if r.candidate.rescored == rescored and not math.isnan(F)]
    return [r for _, r in sorted(ranked, key=lambda pair: pair[0])]
