"""The candidate that wins: the best of the search, of the fresh draws, or of several objectives of those trained in full."""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean

from gee_core.config import SearchConfig
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.fitness import LIMIT, constrained_cost, fitness
from gee_core.evolution.front import MEAN, START, front, knee, mean_points, pick_member, repeats, start_of
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed


def final_fitness(records: Sequence[Record], cfg: SearchConfig) -> list[float]:
    """F of every record at the last generation's λ, or NaN if it failed or is outside of the budget.

    Of several objectives: `fitness.constrained_cost` of the mean over the draws of a candidate. The search, the fresh draws and
    the candidates that are trained in full are each compared with their own start. A dead candidate has NaN, unless all
    are dead, and so has one whose loss in full is beyond `fitness.LIMIT`.

    Paper: silent. Here: one λ for all, because λ falls from generation to generation: with their own λ, candidates of the
    first generation would win by their larger reward alone.
    """
    if cfg.several:
        costs = _constrained(records, cfg)
        return [costs.get(r.candidate.name, math.nan) for r in records]
    return [fitness(r.score, records[-1].decay, cfg) if r.ok else math.nan for r in records]


def candidates_to_rescore(records: Sequence[Record], mean: Genotype | None, cfg: SearchConfig, seed: int) -> list[Candidate]:
    """The best candidates of the search, its start, and the ``mean`` of its distribution, each on the same fresh seeds.

    The best are the best of each generation, the last generation first, then the second best of each, and so on. F does not say
    which generation was better, because each has a seed of its own. Of equal genotypes only the best is scored again. With
    several objectives, all have one seed and the best are those of least F.
    """
    if cfg.rescore is None:
        return []
    start, named = records[0].candidate.genotype, dict[Genotype, str]()
    for r in _from_best(records, cfg) if cfg.several else _from_best_of_generations(records, cfg):
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


def candidates_in_full(records: Sequence[Record], cfg: SearchConfig, seed: int) -> list[Candidate]:
    """With `choose` = no_worse, the start of a search of several objectives and the two most promising members of its front.

    They are the member of least F and the knee, or the next in F where these are one or the start. They share a fresh seed.
    """
    if not cfg.several or cfg.choose != "no_worse" or not (members := front(records, cfg)):
        return []
    F = _constrained(records, cfg)
    best, *others = sorted(members, key=lambda m: F[m.record.candidate.name])
    named = {records[0].candidate.genotype: START}
    for m in (best, knee(members), *others):
        c = m.record.candidate
        if len(named) < 3:
            named.setdefault(c.genotype, c.origin)
    full = derive_seed(seed, "in_full") % 2**31
    return [
        Candidate(cfg.n_generations + 1, index, full, genotype, rescored=name, in_full=True)
        for index, (genotype, name) in enumerate(named.items())
    ]


def fresh_fitness(records: Sequence[Record], cfg: SearchConfig) -> dict[str, list[float]]:
    """F of every fresh draw, by ``Candidate.rescored``. Candidates of which a draw failed are left out.

    Of several objectives, all draws of a candidate have the F of their mean.
    """
    draws: dict[str, list[float]] = {}
    for record, value in zip(records, final_fitness(records, cfg), strict=True):
        if record.candidate.rescored and not record.candidate.in_full:
            draws.setdefault(record.candidate.rescored, []).append(value)
    return {name: values for name, values in draws.items() if not any(map(math.isnan, values))}


def draws_of(record: Record, records: Sequence[Record]) -> list[Record]:
    """The fresh draws of the genotype of ``record`` among ``records``, or where there are none its candidate of the search."""
    of_search, fresh, _ = repeats(records)
    return fresh.get(record.candidate.origin) or of_search[record.candidate.origin]


def winner(records: Sequence[Record], cfg: SearchConfig) -> Record:
    """The best draw of the candidate with the lowest mean F over fresh draws, or else the best candidate of the search.

    Of several objectives: that of least F of those that were trained in full, or else the member that `choose` names.

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
    costs = _constrained(records, cfg) if cfg.several else {}
    if in_full := [r for r in records if r.candidate.in_full and r.candidate.name in costs]:
        return min(in_full, key=lambda r: costs[r.candidate.name])
    if cfg.several and (members := front(records, cfg)):
        return pick_member(members, cfg).record
    fresh = fresh_fitness(records, cfg)
    ranked = _from_best(records, cfg, min(fresh, key=lambda name: fmean(fresh[name]), default=""))
    if not ranked:
        raise ValueError(f"all {len(records)} candidates failed; the first: {records[0].score.status}")
    return ranked[0]


def _constrained(records: Sequence[Record], cfg: SearchConfig) -> dict[str, float]:
    """F of several objectives by `Candidate.name`, without candidates that have none."""
    costs: dict[str, float] = {}
    for groups, limit in zip(repeats(records), (math.inf, math.inf, LIMIT), strict=True):
        points = mean_points(groups, cfg)
        for label, point in points.items():
            start = start_of(points)
            if point[0] <= (1 + limit) * start[0]:
                costs |= {draw.candidate.name: constrained_cost(point, start) for draw in groups[label]}
    return costs


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
