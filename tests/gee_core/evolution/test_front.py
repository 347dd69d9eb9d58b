"""Fronts: ranks, hypervolume and choice, and searches of several objectives whose scores are known beforehand."""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee_core.errors import InputError
from gee_core.evolution.candidate import Candidate, Price, Record, failed
from gee_core.evolution.fitness import constrained_cost
from gee_core.evolution.front import START, front, hypervolumes, knee, pick_member, point, ranks
from gee_core.evolution.loop import evolve, n_candidates
from gee_core.evolution.winner import candidates_to_rescore, final_fitness, winner
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


def test_the_member_is_the_knee_or_of_a_number():
    members = members_of((0.5, 10.0), (1.0, 2.0), (2.0, 1.0), (0.45, 40.0), (3.0, 3.0))
    assert [m.point for m in members] == [(0.45, 40.0), (0.5, 10.0), (1.0, 2.0), (2.0, 1.0)]

    def choose(choice):
        return members.index(pick_member(members, CFG.model_copy(update={"choose": choice})))

    assert choose("knee") == 1  # the corner
    assert choose(4) == 3
    with pytest.raises(InputError, match=r"^choose = 5: the front has 4 members: choose 1 to 4$"):
        choose(5)


def test_the_cost_counts_at_a_loss_of_at_most_5_percent_more_and_hardly_beyond():
    start = (0.4, 2.0, 100.0)
    assert constrained_cost(start, start) == 1
    assert constrained_cost((0.1, 1.0, 50.0), start) == constrained_cost((0.42, 1.0, 50.0), start) == pytest.approx(0.25)
    assert constrained_cost((0.84, 1.0, 100.0), start) == pytest.approx(0.5 * 2**5)
    assert math.isnan(constrained_cost((math.nan, 1.0, 50.0), start)) and math.isfinite(constrained_cost((1e80, 1, 1), start))


def dead_or_alive(c: Candidate):
    """All with a large σ_O fall silent, or answer at random, and cost next to nothing."""
    x = math.log(c.genotype.sigma_O / SPACE.start.sigma_O)
    if x > 0.1:
        return measured(math.log(10) + (x > 0.3), dead=True, price=Price(1, 1, 4, 1e-3))
    return measured(0.4 + 0.1 * abs(x), price=Price(100, 100, 4, 10.0 + 5 * x))


@pytest.mark.parametrize("choose", ["no_worse", "knee"])
def test_a_dead_network_ranks_last_and_never_wins_whatever_it_saves(choose):
    cfg = config(variant="baseline", objectives=["loss", "energy"], choose=choose, rescore={"top": 3, "draws": 1}, sigma=1.0)
    records = evolve(cfg, SPACE, 3, Scorer(dead_or_alive))
    search = [r for r in records if not r.candidate.rescored]
    assert any(r.score.dead for r in search) and not any(r.score.dead for r in records[len(search) :])
    assert not winner(records, cfg).score.dead and not any(m.record.score.dead for m in front(records, cfg))
    assert all(math.isnan(F) == r.score.dead for F, r in zip(final_fitness(records, cfg), records, strict=True))
    first, *_, last = ([not r.score.dead for r in search if r.candidate.generation == g] for g in range(cfg.n_generations))
    assert sum(last) > sum(first)
    silent = [replace(r, score=measured(2.4, dead=True, price=Price(1, 1, 4, 1e-3))) for r in search]
    assert winner(silent, cfg).score.dead  # there is nothing else


def test_of_start_and_members_in_full_the_cheapest_that_loses_no_more_wins():
    cfg = config(variant="baseline", objectives=["loss", "energy"], choose="no_worse", rescore={"top": 4, "draws": 2})

    def longer(c, worse):
        return replace(trade(c), L_ce=1.0 if c.rescored == START else worse) if c.in_full else trade(c)

    for worse, best in ((1.04, False), (1.14, False), (1.16, True)):
        records = evolve(cfg, SPACE, 1, scorer := Scorer(partial(longer, worse=worse)))
        *others, a, b, c = records
        assert [r.candidate.in_full for r in records] == [False] * len(others) + [True] * 3
        assert len({r.candidate.seed for r in (a, b, c)}) == 1 and a.candidate.seed not in {r.candidate.seed for r in others}
        assert a.candidate.rescored == START and a.candidate.genotype == records[0].candidate.genotype
        assert knee(front(records, cfg)).record.candidate.rescored in {r.candidate.rescored for r in (a, b, c)}
        won = winner(records, cfg)
        assert won.candidate.in_full and (won is a) == best, worse
        assert final_fitness(records, cfg)[-3] == 1 and len(scorer.scored) == len(records) <= n_candidates(cfg, SPACE)
    other = config(**cfg.model_dump() | {"choose": "knee"})
    assert [r.candidate for r in evolve(other, SPACE, 1, Scorer(trade))] == [r.candidate for r in others]


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
    assert winner(records, cfg) == pick_member(members, cfg).record
    start = np.mean([point(r, cfg) for r in again if r.candidate.rescored == START], axis=0)
    of_start, *_ = (F for F, r in zip(final_fitness(records, cfg), records, strict=True) if r.candidate.rescored == START)
    assert of_start == 1
    for F, r in zip(final_fitness(records, cfg), records, strict=True):
        if r in again:
            own = [point(draw, cfg) for draw in again if draw.candidate.rescored == r.candidate.rescored]
            assert pytest.approx(constrained_cost(np.mean(own, axis=0), start)) == F


def test_those_of_least_cost_within_the_loss_are_scored_again():
    cfg = config(variant="baseline", objectives=["loss", "energy"], rescore={"top": 5, "draws": 1})
    losses_and_energies = [(1.0, 4.0), (1.6, 1.0), (2.5, 0.5), (0.9, 6.5), (1.2, 3.0), (0.95, 5.5), (1.4, 2.0), (1.3, 3.5)]
    scores = [measured(loss, price=Price(9, 9, 4, energy)) for loss, energy in losses_and_energies]
    genotypes = [replace(SPACE.start, sigma_O=0.1 + 0.01 * i) for i in range(len(scores))]
    records = [Record(Candidate(0, i, 1, g), s, 1, s.L_ce, 0) for i, (g, s) in enumerate(zip(genotypes, scores, strict=True))]
    again = {c.rescored for c in candidates_to_rescore(records, None, cfg, 0)}
    assert again == {"0-0", "0-1", "0-3", "0-4", "0-5"}
    two = candidates_to_rescore(records, None, config(**cfg.model_dump() | {"rescore": {"top": 2, "draws": 1}}), 0)
    assert {c.rescored for c in two} == {"0-0", "0-5"}
