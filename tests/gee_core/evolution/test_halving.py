"""Successive halving: the ranking that CMA-ES is told, and evolutions whose scores are known beforehand."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from gee_core.config import EvolveConfig
from gee_core.evolution import loop
from gee_core.evolution.candidate import Candidate, Failure, Score, failed
from gee_core.evolution.loop import evolve, ranked_values, survivors
from gee_core.evolution.winner import winner
from gee_core.seeding import derive_seed
from tests.gee_core.evolution import made_up
from tests.gee_core.evolution.made_up import SPACE, measured

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "eta", "kept"),
    [
        ([3.0, 1.0, 2.0, 4.0], 2, [1, 2]),
        ([3.0, 1.0, 2.0, 4.0, 0.0], 2, [1, 2, 4]),  # ⌈5/2⌉
        ([3.0, 1.0, 2.0], 1, [0, 1, 2]),
        ([3.0, 1.0, 2.0], 100, [1]),
        ([3.0, 1.0, 2.0], 1.5, [1, 2]),
        ([1.0, 1.0, 1.0], 2, [0, 1]),  # of equals the first
        ([NAN, 1.0, NAN, 4.0], 1, [1, 3]),
        ([NAN, NAN, 6.0, 4.0], 2, [2, 3]),  # the failed ones count in n
        ([NAN, NAN], 2, []),
    ],
)
def test_the_best_go_on_in_their_order_and_a_failed_one_never(values, eta, kept):
    assert survivors(values, eta) == kept


def test_where_all_trained_equally_long_the_values_are_told_as_they_are():
    values = [0.1 + 0.2, -1e-17, 1e9, NAN]
    assert repr(ranked_values(values, [2, 2, 2, 1], [0.0] * 4)) == repr(values)


def test_who_trained_longer_ranks_before_whoever_did_not_and_the_order_among_equals_stays():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = rng.integers(1, 12)
        values, epochs = rng.normal(scale=5.0, size=n), rng.integers(1, 4, n)
        excess = rng.choice([0.0, 0.0, 1.0], n) * rng.uniform(size=n)
        told = ranked_values(values.tolist(), epochs.tolist(), excess.tolist())
        wanted = sorted(range(n), key=lambda i: (excess[i] > 0, excess[i] or -epochs[i], excess[i] or values[i]))
        assert sorted(range(n), key=lambda i: told[i]) == wanted
        if not excess.any():
            assert [told[i] for i in range(n) if epochs[i] == epochs.max()] == values[epochs == epochs.max()].tolist()


def config(**changes) -> EvolveConfig:
    values = {"n_generations": 3, "population_size": 6, "proxy_epochs": 3, "halving": 2.0}
    return made_up.config(**(values | changes))


def measure(c: Candidate) -> Score:
    """Falls with the epochs at a speed of the candidate's own, so that who leads changes; one in seven fails."""
    epochs, number = c.epochs or 3, derive_seed(c.seed, c.index)
    if number % 7 == 0 and epochs > 1:
        return failed(Failure.DIVERGED, "diverged", 10 * epochs)
    L_ce = 1 + (number % 97) / 97 + (number % 89) / 89 / epochs
    return measured(L_ce, c.genotype.sigma_O, 0.5, image_passes=10 * epochs)


def scorer(shuffle: int | None = None) -> made_up.Scorer:
    """``measure`` as a ``score_all``, in any order."""
    rng = random.Random(shuffle)
    return made_up.Scorer(measure, list if shuffle is None else lambda candidates: rng.sample(candidates, len(candidates)))


def same(left, right) -> bool:
    return repr(left) == repr(right)


def run(cfg, **arguments):
    asked = arguments.pop("scorer", None) or scorer()
    return evolve(cfg, SPACE, 0, asked, **arguments), asked


def test_each_epoch_is_for_the_better_half_and_the_records_say_who_got_how_far():
    records, asked = run(config(n_generations=1))
    values = {}
    alive = [r.candidate for r in records]
    for epochs in (1, 2, 3):
        assert sorted(p[1] for p in asked.scored if p[2] == epochs) == [c.index for c in alive]
        scores = [measure(replace(c, epochs=epochs)) for c in alive]
        F = [s.L_ce - 0.1 * s.R_T - 0.2 * s.R_S for s in scores]
        values |= {c.index: (epochs, f, s) for c, f, s in zip(alive, F, scores, strict=True)}
        alive = [alive[i] for i in survivors(F, 2.0)]
    for r in records:
        epochs, F, score = values[r.candidate.index]
        assert (r.epochs, r.seconds, r.score.image_passes) == (epochs, 1.5 * epochs, 10 * epochs)
        assert same(r.score, score)
        assert r.fitness == pytest.approx(F, nan_ok=True)
        assert r.candidate.epochs is None
    assert sorted(r.epochs for r in records) == [1, 1, 1, 2, 3, 3]  # of 6 go on 3, of 3 go on 2


def test_without_eliminations_it_equals_plain_evaluation_bit_for_bit():
    plain, _ = run(config(halving=None))
    rungs_of_all, asked = run(config(halving=1.0))
    ok = [r for r in plain if r.ok]
    assert ok
    assert same([r.candidate for r in rungs_of_all], [r.candidate for r in plain])  # so CMA-ES was told the same
    assert same([r.fitness for r in rungs_of_all], [r.fitness for r in plain])
    assert same([r.score for r in rungs_of_all if r.ok], [r.score for r in ok])
    assert len(asked.scored) > 2 * len(plain)
    assert winner(rungs_of_all, config()).candidate == winner(plain, config()).candidate


def test_a_run_that_takes_over_any_part_of_the_scores_equals_one_that_never_stopped():
    log = []
    whole, _ = run(config(), on_score=lambda c, score, seconds: log.append((c.key, (score, seconds))))
    for n in range(0, len(log) + 1, 3):
        again = {}
        records, asked = run(config(), known=dict(log[:n]), on_score=lambda c, *_, to=again: to.setdefault(c.key))
        assert same(records, whole)
        assert asked.scored == [key[:-1] for key in again] == [key[:-1] for key, _ in log[n:]]


def test_search_is_told_a_ranking_in_which_eliminated_candidates_come_last_but_for_failed_ones(monkeypatch):
    told = []

    class Spy(loop.CmaEs):
        def tell(self, values):
            told.append(list(values))
            super().tell(values)

    monkeypatch.setattr(loop, "CmaEs", Spy)
    records, _ = run(config())
    for t, values in enumerate(told):
        generation = records[6 * t : 6 * t + 6]
        assert [math.isnan(v) for v in values] == [not r.ok for r in generation]
        ok = [i for i, r in enumerate(generation) if r.ok]
        wanted = sorted(ok, key=lambda i: (-generation[i].epochs, generation[i].fitness))
        assert sorted(ok, key=lambda i: values[i]) == wanted
    assert len(told) == 3
