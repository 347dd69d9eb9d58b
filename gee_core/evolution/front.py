"""Several objectives, all minimised: the front of candidates that none beats in all, and its chosen member. No torch here.

Source: Deb, Pratap, Agarwal, Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gee_core.config import SearchConfig
from gee_core.errors import InputError
from gee_core.evolution.candidate import Record

MEASURED_AS = {"loss": "L_ce", "energy": "energy_uj"}
"""The name of an objective's measurement, where it has another."""

START, MEAN = "0-0", "mean"
"""`Candidate.rescored` of the start of a search, its first candidate, and of the mean of CMA-ES's distribution."""

Point = tuple[float, ...]
"""A candidate's value of every objective."""


class Member(NamedTuple):
    """A member of a front."""

    record: Record
    """Its candidate, or of several fresh draws the draw with the least loss."""
    point: Point
    """Its value of every objective, or the mean over fresh draws."""


def point(record: Record, cfg: SearchConfig) -> Point:
    """The objectives of a candidate, or NaN where it failed."""
    values = asdict(record.score) | record.price()
    return tuple(float(values[MEASURED_AS.get(name, name)]) for name in cfg.objectives)


def repeats(records: Sequence[Record]) -> Iterator[dict[str, list[Record]]]:
    """The draws of every candidate by its label: those of the search, the fresh draws, and those that were trained in full."""
    of_search = [r for r in records if not r.candidate.rescored]
    fresh, in_full = ([r for r in records if r.candidate.rescored and r.candidate.in_full == full] for full in (False, True))
    for kind in (of_search, fresh, in_full):
        groups: dict[str, list[Record]] = {}
        for r in kind:
            groups.setdefault(r.candidate.origin, []).append(r)
        yield groups


def mean_points(groups: Mapping[str, Sequence[Record]], cfg: SearchConfig) -> dict[str, Point]:
    """By label the mean objectives over the draws of a candidate, where no draw failed or is dead.

    If all candidates are dead, they are compared all the same.
    """
    ok = {label: draws for label, draws in groups.items() if all(r.ok for r in draws)}
    alive = {label: draws for label, draws in ok.items() if not any(r.score.dead for r in draws)}
    return {
        label: tuple(map(fmean, zip(*(point(r, cfg) for r in draws), strict=True))) for label, draws in (alive or ok).items()
    }


def start_of(points: Mapping[str, Point]) -> Point:
    """The objectives of the start of a search, or where it failed or is dead those of the first candidate."""
    return points.get(START) or next(iter(points.values()))


def front(records: Sequence[Record], cfg: SearchConfig) -> list[Member]:
    """The front of the candidates that were scored again, by their means, or else of the search. The least loss is first."""
    of_search, fresh, _ = repeats(records)
    groups, points = next(((g, found) for g in (fresh, of_search) if (found := mean_points(g, cfg))), ({}, {}))
    members = [Member(min(groups[label], key=lambda r: r.score.L_ce), at) for label, at in points.items()]
    return sorted((m for m, rank in zip(members, ranks([*points.values()]), strict=True) if rank == 1), key=lambda m: m.point)


def ranks(points: Sequence[Point]) -> list[int]:
    """1 for the front, 2 for the front of the others, and so on, or 0 for NaN."""
    import moocore  # it takes a moment

    measured = [i for i, p in enumerate(points) if not any(map(math.isnan, p))]
    fronts = dict(zip(measured, moocore.pareto_rank([points[i] for i in measured]).tolist() if measured else [], strict=True))
    return [fronts.get(i, -1) + 1 for i in range(len(points))]


def hypervolumes(records: Sequence[Record], cfg: SearchConfig) -> list[float]:
    """The hypervolume of the search up to each generation. It is empty where the start failed or is dead.

    It is the part of all points below twice the values of the start that some candidate beats.
    """
    import moocore

    groups = next(repeats(records))
    points = mean_points(groups, cfg)
    if START not in points:
        return []
    reference = [2 * value for value in points[START]]
    ok = [(groups[label][0].candidate.generation, at) for label, at in points.items()]
    last = max(r.candidate.generation for draws in groups.values() for r in draws)
    fronts = ([at for g, at in ok if g <= generation] for generation in range(last + 1))
    return [float(moocore.hypervolume(at, ref=reference)) / math.prod(reference) for at in fronts]


def pick_member(members: Sequence[Member], cfg: SearchConfig) -> Member:
    """The member of a front that `choose` names: its knee, or that with a number. An ``InputError`` if there is none."""
    choice, n = cfg.choose, len(members)
    if isinstance(choice, int):
        if choice > n:
            raise InputError(f"= {choice}: the front has {n} members", f"choose 1 to {n}", ("choose",))
        return members[choice - 1]
    return knee(members)


def knee(members: Sequence[Member]) -> Member:
    """The member of a front that is nearest to the best of every objective, each on its range."""
    values = np.array([member.point for member in members])
    parts = (values - values.min(axis=0)) / (np.ptp(values, axis=0) + (np.ptp(values, axis=0) == 0))
    return members[int((parts**2).sum(axis=1).argmin())]
