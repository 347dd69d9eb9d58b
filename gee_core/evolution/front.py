"""Several objectives, all minimised: the front of candidates that none beats in all, and its chosen member. No torch here.

Source: Deb, Pratap, Agarwal, Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from gee_core.config import SearchConfig
from gee_core.errors import InputError
from gee_core.evolution.candidate import Record

MEASURED_AS = {"loss": "L_ce", "energy": "energy_uj"}
"""The name of an objective's measurement, where it has another."""

Point = tuple[float, ...]
"""A candidate's value of every objective."""


class Member(NamedTuple):
    """A member of a front."""

    record: Record
    """Its candidate, or of several fresh draws the draw with the least loss."""
    point: Point
    """Its value of every objective, or the mean over fresh draws."""
    error: float
    """Standard error of the difference between its loss and the start's over the same fresh draws. 0 where there are none."""


def point(record: Record, cfg: SearchConfig) -> Point:
    """The objectives of a candidate, or NaN where it failed."""
    values = asdict(record.score) | record.price()
    return tuple(float(values[MEASURED_AS.get(name, name)]) for name in cfg.objectives)


def front(records: Sequence[Record], cfg: SearchConfig) -> list[Member]:
    """The front of the candidates that were scored again, by their means, or else of the search. The least loss is first."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        groups.setdefault(r.candidate.rescored, []).append(r)
    search = [[r] for r in groups.pop("", []) if r.ok]
    whole = [group for group in groups.values() if all(r.ok for r in group)] or search
    points = [tuple(map(fmean, zip(*(point(r, cfg) for r in group), strict=True))) for group in whole]
    best, start = (min(group, key=lambda r: r.score.L_ce) for group in whole), groups.get(records[0].candidate.label, [])
    errors = (_error(group, start) for group in whole)
    members = map(Member, best, points, errors)
    return sorted((m for m, rank in zip(members, ranks(points), strict=True) if rank == 1), key=lambda m: m.point)


def _error(group: Sequence[Record], start: Sequence[Record]) -> float:
    """``Member.error`` of the draws of a candidate."""
    differences = [r.score.L_ce - s.score.L_ce for r, s in zip(group, start, strict=False)]
    return stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def start_point(records: Sequence[Record], cfg: SearchConfig) -> Point:
    """The objectives of the start of a search: their means over its fresh draws, where there are any among ``records``."""
    again = [r for r in records if r.candidate.rescored == records[0].candidate.label] or records[:1]
    return tuple(map(fmean, zip(*(point(r, cfg) for r in again), strict=True)))


def ranks(points: Sequence[Point]) -> list[int]:
    """1 for the front, 2 for the front of the others, and so on, or 0 for NaN."""
    import moocore  # it takes a moment

    measured = [i for i, p in enumerate(points) if not any(map(math.isnan, p))]
    fronts = dict(zip(measured, moocore.pareto_rank([points[i] for i in measured]).tolist() if measured else [], strict=True))
    return [fronts.get(i, -1) + 1 for i in range(len(points))]


def crowding(points: Sequence[Point]) -> list[float]:
    """The distance of each point of a front: the gaps between its neighbours, summed over the objectives, each on its range.

    The least and greatest of an objective have the number of objectives, the most that there can be, in place of infinity.
    """
    distances = np.zeros(len(points))
    for values in np.array(points).T:
        order = values.argsort(kind="stable")
        distances[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / (np.ptp(values) or 1.0)
        distances[order[[0, -1]]] = math.inf
    return np.minimum(distances, len(points[0])).tolist()


def hypervolumes(records: Sequence[Record], cfg: SearchConfig) -> list[float]:
    """The hypervolume of the search up to each generation. It is empty where the start failed.

    It is the part of all points below twice the values of the start that some candidate beats.
    """
    import moocore

    search = [r for r in records if not r.candidate.rescored]
    if not search[0].ok:
        return []
    reference = [2 * value for value in start_point(search, cfg)]
    ok = [(r.candidate.generation, point(r, cfg)) for r in search if r.ok]
    fronts = ([p for g, p in ok if g <= generation] for generation in range(search[-1].candidate.generation + 1))
    return [float(moocore.hypervolume(points, ref=reference)) / math.prod(reference) for points in fronts]


def pick_member(members: Sequence[Member], cfg: SearchConfig, start: Point) -> Member:
    """The member of a front that `choose` names, ``start`` being where the search began. An ``InputError`` if there is none."""
    choice, n = cfg.choose, len(members)
    if choice == "no_worse":  # where the start failed, the one of least loss
        return min((m for m in members if m.point[0] <= start[0] + m.error), key=lambda m: m.point[1], default=members[0])
    if isinstance(choice, int):
        if choice > n:
            raise InputError(f"= {choice}: the front has {n} members", f"choose 1 to {n}", ("choose",))
        return members[choice - 1]
    values = np.array([member.point for member in members])
    parts = (values - values.min(axis=0)) / (np.ptp(values, axis=0) + (np.ptp(values, axis=0) == 0))
    return members[int((parts**2).sum(axis=1).argmin())]
