"""Fronts: ranks, crowding, hypervolume and choice, and searches of several objectives whose scores are known beforehand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee_core.errors import InputError
from gee_core.evolution.candidate import Candidate, Price, Record, failed
from gee_core.evolution.front import crowding, front, hypervolumes, pick_member, point, ranks, start_point
from gee_core.evolution.loop import evolve
from gee_core.evolution.winner import START, candidates_to_rescore, winner
from tests.gee_core.evolution.made_up import SPACE, Scorer, config, measured

POINTS = st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 3), min_size=1, max_size=12)
CFG = config(variant="baseline", objectives=["loss", "energy"], n_generations=6, population_size=8)


def beats(p, q):
    return p != q and all(a <= b for a, b in zip(p, q, strict=True))


@given(points=POINTS)
def test_a_front_holds_what_nobody_beats_among_those_that_are_left(points):
    found = ranks([*points, (math.nan, 0.0, 0.0)])
    assert found.pop() == 0
    for p, rank in zip(points, found, strict=True):
        left = [q for q, other in zip(points, found, strict=True) if other >= rank]
        assert not any(beats(q, p) for q in left)
        assert rank == 1 or any(beats(q, p) for q, other in zip(points, found, strict=True) if other == rank - 1)


@given(points=POINTS)
def test_the_hypervolume_is_the_part_of_all_cells_that_a_point_beats(points):
    cfg = CFG.model_copy(update={"objectives": ["loss", "energy", "parameters"]})
    scores = [measured(L_ce, price=Price(int(n), 9, 4, energy)) for L_ce, energy, n in [(3.0, 3.0, 3.0), *points]]
    records = [Record(Candidate(0, i, 1, SPACE.start), score, 1, score.L_ce, 0, 1) for i, score in enumerate(scores)]

    def beaten(cell):
        return any(all(x <= c for x, c in zip(p, cell, strict=True)) for p in [(3.0, 3.0, 3.0), *points])

    cells = sum(map(beaten, itertools.product(range(6), repeat=3)))  # below twice the first
    assert hypervolumes(records, cfg) == [pytest.approx(cells / 6**3)]
    assert hypervolumes([replace(records[0], score=failed("it")), *records[1:]], cfg) == []


def test_crowding_is_that_of_nsga2_with_the_number_of_objectives_at_the_ends():
    points = [(0.0, 4.0), (1.0, 2.0), (3.0, 1.0), (4.0, 0.0)]
    assert crowding(points) == [2.0, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, 2.0]


def trade(c: Candidate):
    """The larger σ_O, the less loss and the more energy; the distance of every σ_l from a best one costs both."""
    sigmas = zip((c.genotype.sigma_O, *c.genotype.sigma_X), (0.2, 0.2, 0.15, 0.6), strict=True)
    x, *others = (math.log(value / best) / math.log(4) for value, best in sigmas)
    y = math.hypot(*others)
    if x > 0.4:
        return failed("it diverged")
    return measured(1.0 - 0.4 * x + y**2, price=Price(100, 100, 4, 10.0 * math.exp(x) + 5 * y**2))


@pytest.mark.parametrize("variant", ["baseline", "random_search"])
def test_a_search_of_two_objectives_covers_more_and_resumes_bit_for_bit(variant):
    cfg = CFG.model_copy(update={"variant": variant, "a": 0.0, "b": 0.0, "sigma": 1.0, "rescore": None})
    before = np.random.get_state()[1].copy()
    records = evolve(cfg, SPACE, 1, Scorer(trade))
    assert (np.random.get_state()[1] == before).all() and not all(r.ok for r in records)
    assert {r.candidate.seed for r in records} == {records[0].candidate.seed}
    assert records[0].candidate.genotype == SPACE.genotype(SPACE.start_vector())
    volumes = hypervolumes(records, cfg)
    assert volumes == sorted(volumes) and volumes[-1] > volumes[0] > 0
    members = front(records, cfg)
    assert [m.point for m in members] == sorted(m.point for m in members) and len(members) > 1
    known = {r.candidate.key: (r.score, 1.5) for r in records[:20]}
    scorer = Scorer(trade, order=lambda c: c[::-1])
    assert repr(evolve(cfg, SPACE, 1, scorer, known)) == repr(records)  # NaN equals nothing
    assert len(scorer.scored) == len(records) - 20


def members_of(*points):
    scores = [measured(loss, price=Price(int(100 * energy), 9, 4, energy)) for loss, energy in points]
    return front([Record(Candidate(0, i, 1, SPACE.start), score, 1, score.L_ce, 0, 1) for i, score in enumerate(scores)], CFG)


def test_the_member_is_the_knee_or_no_worse_than_the_start_or_of_a_number():
    members = members_of((0.5, 10.0), (1.0, 2.0), (2.0, 1.0), (0.45, 40.0), (3.0, 3.0))
    assert [m.point for m in members] == [(0.45, 40.0), (0.5, 10.0), (1.0, 2.0), (2.0, 1.0)]

    def choose(choice):
        return members.index(pick_member(members, CFG.model_copy(update={"choose": choice}), start))

    start = (1.5, 9.0)
    assert choose("knee") == 1  # the corner
    assert choose("no_worse") == 2
    start = (0.5, 10.0)
    assert choose("no_worse") == 1  # the start itself
    start = (0.1, 9.0)
    assert choose("no_worse") == 0  # all lose more than the start: the least of them
    start = (math.nan, math.nan)
    assert choose("no_worse") == 0  # the start failed
    start, unsure = (1.9, 9.0), members[3]._replace(error=0.2)
    assert pick_member([*members[:3], unsure], CFG.model_copy(update={"choose": "no_worse"}), start) == unsure
    assert choose(4) == 3
    with pytest.raises(InputError, match=r"^choose = 5: the front has 4 members: choose 1 to 4$"):
        choose(5)


def test_the_error_of_a_member_is_that_of_its_difference_from_the_start():
    draws = {"": [1.0, 0.9], "0-0": [1.0, 1.2, 1.1], "0-1": [0.8, 0.9, 1.3]}
    records = [
        Record(Candidate(0, i, 1, SPACE.start, name, i), measured(loss, price=Price(9, 9, 4, 5.0)), 1, loss, 0, 1)
        for name, losses in draws.items()
        for i, loss in enumerate(losses)
    ]
    (member,) = front(records, CFG.model_copy(update={"objectives": ["loss", "energy"]}))
    assert member.point == (1.0, 5.0) and member.error == pytest.approx(np.std([-0.2, -0.3, 0.2], ddof=1) / 3**0.5)


def test_fresh_draws_decide_what_is_on_the_front_and_the_better_draw_is_trained():
    cfg = config(variant="baseline", objectives=["loss", "energy"], n_generations=3, rescore={"top": 3, "draws": 2})

    def noisy(c):
        score = trade(c)
        return replace(score, L_ce=score.L_ce + 0.1 * c.draw) if c.rescored else score

    records = evolve(cfg, SPACE, 1, Scorer(noisy))
    again = [r for r in records if r.candidate.rescored]
    assert 2 * 4 <= len(again) <= 2 * 5  # three members, the start and the mean
    members = front(records, cfg)
    assert all(m.record.candidate.rescored and m.record.candidate.draw == 0 for m in members)
    for m in members:
        own = [point(r, cfg) for r in again if r.candidate.rescored == m.record.candidate.rescored]
        assert m.point == pytest.approx(np.mean(own, axis=0))
    start = start_point(records, cfg)
    assert start == pytest.approx(np.mean([point(r, cfg) for r in again if r.candidate.rescored == START], axis=0))
    assert winner(records, cfg) == pick_member(members, cfg, start).record
    thrifty = winner(records, cfg.model_copy(update={"choose": "no_worse"}))
    assert point(thrifty, cfg)[0] <= start[0] and point(thrifty, cfg)[1] < start[1]


def test_those_near_the_start_are_scored_again_front_by_front():
    cfg = config(variant="baseline", objectives=["loss", "energy"], rescore={"top": 5, "draws": 1})
    losses_and_energies = [(1.0, 4.0), (1.6, 1.0), (2.5, 0.5), (0.9, 6.5), (1.2, 3.0), (0.95, 5.5), (1.4, 2.0), (1.3, 3.5)]
    scores = [measured(loss, price=Price(9, 9, 4, energy)) for loss, energy in losses_and_energies]
    genotypes = [replace(SPACE.start, sigma_O=0.1 + 0.01 * i) for i in range(len(scores))]
    records = [Record(Candidate(0, i, 1, g), s, 1, s.L_ce, 0) for i, (g, s) in enumerate(zip(genotypes, scores, strict=True))]
    again = {c.rescored for c in candidates_to_rescore(records, None, cfg, 0)}
    assert again == {"0-0", "0-4", "0-5", "0-6", "0-7"}
    two = candidates_to_rescore(records, None, config(**cfg.model_dump() | {"rescore": {"top": 2, "draws": 1}}), 0)
    assert "0-7" not in {c.rescored for c in two}
