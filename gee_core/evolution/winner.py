"""The candidate that wins: the best of the search, or of the candidates that are scored again on fresh draws."""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean

from gee_core.config import SearchConfig
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.fitness import fitness
from gee_core.evolution.front import crowding, front, pick_member, point, ranks, start_point
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed

START, MEAN = "0-0", "mean"
"""`Candidate.rescored` of the start of a search, its first candidate, and of the mean of CMA-ES's distribution."""


def final_fitness(records: Sequence[Record], cfg: SearchConfig) -> list[float]:
    """F of every record at the last generation's λ, or NaN if it failed or is outside of the budget.

    Paper: silent. Here: one λ for all, because λ falls from generation to generation: with their own λ, candidates of the
    first generation would win by their larger reward alone.
    """
    return [fitness(r.score, records[-1].decay, cfg) if r.ok else math.nan for r in records]


def candidates_to_rescore(records: Sequence[Record], mean: Genotype | None, cfg: SearchConfig, seed: int) -> list[Candidate]:
    """The best candidates of the search, its start, and the ``mean`` of its distribution, each on the same fresh seeds.

    The best are the best of each generation, the last generation first, then the second best of each, and so on. F does not say
    which generation was better, because each has a seed of its own. Of equal genotypes only the best is scored again. With
    several objectives, they are the front, then the front of the others, and so on, of those near the start.
    """
    if cfg.rescore is None:
        return []
    start, named = records[0].candidate.genotype, dict[Genotype, str]()
    for r in _front_by_front(records, cfg) if cfg.several else _from_best_of_generations(records, cfg):
        if len(named) < cfg.rescore.top:
            named.setdefault(r.candidate.genotype, START if r.candidate.genotype == start else r.candidate.label)
    if named:
        named.setdefault(start, START)
    if named and mean is not None:
        named.setdefault(mean, MEAN)
    seeds = [derive_seed(seed, "rescore", draw) % 2**31 for draw in range(cfg.rescore.draws)]
    draws = itertools.product(named.items(), enumerate(seeds))
    return [
        Candidate(cfg.n_generations, index, seed, genotype, rescored=name, draw=draw)
        for index, ((genotype, name), (draw, seed)) in enumerate(draws)
    ]


def fresh_fitness(records: Sequence[Record], cfg: SearchConfig) -> dict[str, list[float]]:
    """F of every fresh draw, by ``Candidate.rescored``. Candidates of which a draw failed are left out."""
    draws: dict[str, list[float]] = {}
    for record, value in zip(records, final_fitness(records, cfg), strict=True):
        if record.candidate.rescored:
            draws.setdefault(record.candidate.rescored, []).append(value)
    return {name: values for name, values in draws.items() if not any(map(math.isnan, values))}


def draws_of(record: Record, records: Sequence[Record]) -> list[Record]:
    """Those of ``records`` that are fresh draws of the wiring of ``record``, or a ``record`` of the search alone."""
    label = record.candidate.rescored
    return [r for r in records if r.candidate.rescored == label] if label else [record]


def winner(records: Sequence[Record], cfg: SearchConfig) -> Record:
    """The best draw of the candidate with the lowest mean F over fresh draws, or else the best candidate of the search.

    Of several objectives: the member of the front that `choose` names.

    Paper: the best candidate. Here: fresh draws decide, because the least of many noisy values is that of a lucky draw. A
    candidate that fails on a fresh draw cannot win. If all fail, the winner of the search stands.

    Args:
        records: all that ``evolve`` returned.
        cfg: the configuration of that search.

    Returns:
        The record of the winner.

    Raises:
        ValueError: every candidate failed.
        InputError: `choose` names no member of the front.
    """
    if cfg.several and (members := front(records, cfg)):
        return pick_member(members, cfg, start_point(records, cfg)).record
    fresh = fresh_fitness(records, cfg)
    ranked = _from_best(records, cfg, min(fresh, key=lambda name: fmean(fresh[name]), default=""))
    if not ranked:
        raise ValueError(f"all {len(records)} candidates failed; the first: {records[0].score.status}")
    return ranked[0]


def _front_by_front(records: Sequence[Record], cfg: SearchConfig) -> list[Record]:
    """The candidates within 1.5 times the start's values, or else all, front by front: first those without near neighbours."""
    start, ok = start_point(records, cfg), [r for r in records if r.ok]
    near = [r for r in ok if all(x <= 1.5 * s for x, s in zip(point(r, cfg), start, strict=True))] or ok
    points = [point(r, cfg) for r in near]
    places, apart = ranks(points), [0.0] * len(near)
    for rank in set(places):
        members = [i for i, place in enumerate(places) if place == rank]
        for i, distance in zip(members, crowding([points[i] for i in members]), strict=True):
            apart[i] = distance
    return [near[i] for i in sorted(range(len(near)), key=lambda i: (places[i], -apart[i]))]


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
