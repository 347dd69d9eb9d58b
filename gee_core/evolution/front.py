"""Several objectives, all minimised: the front of candidates that none beats in all, and which of it is chosen. No torch here.

Source: Deb, Pratap, Agarwal, Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Protocol, TypeVar

from gee_core.config import EvolveConfig
from gee_core.config.evolve import Budget
from gee_core.errors import InputError
from gee_core.evolution.candidate import Record

MEASURES = {"loss": "L_ce", "energy": "energy_uj"}
"""The name of an objective's measurement, where it has another."""

Point = tuple[float, ...]
"""A candidate's value of every objective."""


@dataclass(frozen=True)
class Member:
    """A member of a front."""

    record: Record
    """Its candidate; of one that was scored again, the draw with the least loss."""
    point: Point
    """Its value of every objective; means over fresh draws."""

    @property
    def price(self) -> dict[str, float]:
        """What its network costs."""
        return self.record.price()


class Choosable(Protocol):
    """What ``chosen`` asks a member for."""

    @property
    def point(self) -> Point: ...
    @property
    def price(self) -> dict[str, float]: ...


AnyMember = TypeVar("AnyMember", bound=Choosable)


def point(record: Record, cfg: EvolveConfig) -> Point:
    """The objectives of a candidate; NaN where it failed."""
    values = asdict(record.score) | record.price()
    return tuple(float(values[MEASURES.get(name, name)]) for name in cfg.objectives)


def front(records: Sequence[Record], cfg: EvolveConfig) -> list[Member]:
    """The front of what was scored again, by its means, or else of the search; the least loss first."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        if r.candidate.rescored:
            groups.setdefault(r.candidate.rescored, []).append(r)
    whole = [group for group in groups.values() if all(r.ok for r in group)]
    whole = whole or [[r] for r in records if r.ok and not r.candidate.rescored]
    best = [min(group, key=lambda r: r.score.L_ce) for group in whole]
    members = [
        Member(record, tuple(map(fmean, zip(*(point(r, cfg) for r in group), strict=True))))
        for record, group in zip(best, whole, strict=True)
    ]
    first = [member for member, rank in zip(members, ranks([m.point for m in members]), strict=True) if rank == 1]
    return sorted(first, key=lambda member: member.point)


def ranks(points: Sequence[Point]) -> list[int]:
    """1 for the front, 2 for the front of the others, and so on; of equal points the first alone is on a front. 0 for NaN."""
    found = [0] * len(points)
    left = [i for i, p in enumerate(points) if not any(map(math.isnan, p))]
    rank = 0
    while left:
        rank += 1
        for i in left:
            if not any(_beats(points[j], points[i], j < i) for j in left):
                found[i] = rank
        left = [i for i in left if not found[i]]
    return found


def _beats(p: Point, q: Point, earlier: bool) -> bool:
    return all(a <= b for a, b in zip(p, q, strict=True)) and (p != q or earlier)


def crowding(points: Sequence[Point]) -> list[float]:
    """How far apart each point of a front is: the gaps between its neighbours, summed over the objectives, each on its range.

    The least and greatest of an objective have the number of objectives, the most that there can be, in place of infinity.
    """
    found = [0.0] * len(points)
    for values in zip(*points, strict=True):
        order = sorted(range(len(points)), key=values.__getitem__)
        spread = values[order[-1]] - values[order[0]]
        for i in (order[0], order[-1]):
            found[i] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            found[i] += (values[after] - values[before]) / spread if spread else 0.0
    return [min(value, float(len(points[0]))) for value in found]


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """Volume of what at least one point beats and that beats ``reference``: the greater, the better is a front."""
    inside = sorted((p for p in points if all(x < r for x, r in zip(p, reference, strict=True))), key=lambda p: p[-1])
    if len(reference) == 1 or not inside:
        return max((reference[0] - p[0] for p in inside), default=0.0)
    above = [*(p[-1] for p in inside[1:]), reference[-1]]
    slices = ((top - p[-1], [q[:-1] for q in inside[:n]]) for n, (p, top) in enumerate(zip(inside, above, strict=True), 1))
    return sum(height * hypervolume(part, reference[:-1]) for height, part in slices if height)


def hypervolumes(records: Sequence[Record], cfg: EvolveConfig) -> list[float]:
    """Of the search up to each generation, with twice the values of its start as the reference; empty where that failed."""
    search = [r for r in records if not r.candidate.rescored]
    if not search[0].ok:
        return []
    reference = tuple(2 * value for value in point(search[0], cfg))
    found, best = list[float](), list[Point]()
    for generation in range(search[-1].candidate.generation + 1):
        best += [point(r, cfg) for r in search if r.ok and r.candidate.generation == generation]
        best = [p for p, rank in zip(best, ranks(best), strict=True) if rank == 1]
        found.append(hypervolume(best, reference) / math.prod(reference))
    return found


def chosen(members: Sequence[AnyMember], cfg: EvolveConfig) -> AnyMember:
    """The member that `choose` names; an ``InputError`` if there is none."""
    choice = cfg.choose
    if isinstance(choice, int):
        if choice > len(members):
            raise InputError(f"`choose` = {choice}: the front has {len(members)} members", f"choose 1 to {len(members)}")
        return members[choice - 1]
    if isinstance(choice, Budget):
        for member in members:
            if not choice.exceeded(member.price):
                return member
        limits = choice.model_dump(exclude_none=True)
        least = ", ".join(f"{name} is {min(m.price[name] for m in members):,.6g}" for name in limits)
        raise InputError(f"`choose` = {limits}: no member of the front costs so little", f"the least {least}")
    sides = [(min(values), max(values)) for values in zip(*(m.point for m in members), strict=True)]

    def distance(member: AnyMember) -> float:
        return sum(((x - low) / (high - low)) ** 2 for x, (low, high) in zip(member.point, sides, strict=True) if high > low)

    return min(members, key=distance)
