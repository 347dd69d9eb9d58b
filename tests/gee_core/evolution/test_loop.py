"""Evolution with a scoring function that is known; what real candidates score stands in ``test_proxy``."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from gee_core.evolution import loop
from gee_core.evolution.candidate import Candidate, Record, Score, failed
from gee_core.evolution.loop import evolve, n_candidates
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed
from tests.gee_core.evolution import made_up
from tests.gee_core.evolution.made_up import ANALYTIC, SPACE, config, measured


def measure(c: Candidate) -> Score:
    """Depends on every part of the candidate; one in seven fails."""
    number = derive_seed(c.seed, c.index)
    if number % 7 == 0:
        return failed("diverged")
    L_ce = 1 + sum(math.log(s / 0.2) ** 2 for s in (c.genotype.sigma_O, *c.genotype.sigma_X)) + number % 100 / 1000
    return measured(L_ce, c.genotype.sigma_O, c.genotype.sigma_X[0], TSE=2 * L_ce)


def scorer(order=lambda candidates: candidates) -> made_up.Scorer:
    return made_up.Scorer(measure, order)


def shuffled(candidates):
    return random.Random(0).sample(candidates, len(candidates))


def same(left: list[Record], right: list[Record]) -> bool:
    return repr(left) == repr(right)  # NaN is not equal to itself


def test_a_run_that_takes_over_half_of_the_records_equals_one_that_never_stopped():
    whole = evolve(config(), SPACE, 0, scorer())
    assert any(not record.ok for record in whole)
    for kept in (whole[:10], whole[:7], whole[::2], whole):  # also a generation that was half done, in any order
        known = {r.candidate.key: (r.score, r.seconds) for r in kept}
        asked = scorer(shuffled)
        assert same(evolve(config(), SPACE, 0, asked, known), whole)
        assert set(asked.scored) == {(g, i) for g in range(4) for i in range(5)} - {key[:2] for key in known}
        assert len(asked.scored) == 20 - len(known)


def test_a_known_score_is_never_that_of_another_wiring():
    whole = evolve(config(), SPACE, 0, scorer())
    known = {r.candidate.key: (r.score, r.seconds) for r in whole}
    best = min(whole[:5], key=lambda r: r.fitness)
    known[best.candidate.key] = replace(best.score, L_ce=9.0), 1.0  # repeated with another result: the search takes another way
    changed, asked = evolve(config(), SPACE, 0, scorer(), known), {r.candidate.place: r for r in whole}
    moved = [r for r in changed[5:] if r.candidate.genotype != asked[r.candidate.place].candidate.genotype]
    assert len(moved) == 15
    assert [repr(r.score) for r in moved] == [repr(scorer().measure(r.candidate)) for r in moved]


def test_records_are_by_generation_and_index_with_the_fitness_of_their_own_lambda():
    cfg = config()
    records = evolve(cfg, SPACE, 0, scorer(shuffled))
    assert len(records) == n_candidates(cfg, SPACE) and n_candidates(config(population_size=None), SPACE) == 4 * 8
    assert [(r.candidate.generation, r.candidate.index) for r in records] == [(g, i) for g in range(4) for i in range(5)]
    start = records[0].candidate.genotype
    np.testing.assert_allclose([start.sigma_O, *start.sigma_X], [0.2, 0.1, 0.3, 0.4])
    for r in records:
        s, decay = measure(r.candidate), math.exp(-r.candidate.generation / 2)
        assert r.decay == decay
        assert r.seconds == 1.5
        F = s.L_ce - decay * (0.1 * s.R_T + 0.2 * s.R_S)
        assert r.fitness == pytest.approx(F, nan_ok=True)
        assert r.ok == (s.status == "ok") == math.isfinite(r.fitness)


def test_the_candidates_of_a_generation_share_a_seed_that_no_other_has():
    records = [r for seed in (0, 1) for r in evolve(config(), SPACE, seed, scorer())]
    seeds = [{r.candidate.seed for r in records[i : i + 5]} for i in range(0, 40, 5)]
    assert [len(shared) for shared in seeds] == [1] * 8
    assert len(set.union(*seeds)) == 8
    assert all(0 <= r.candidate.seed < 2**31 for r in records)


@pytest.mark.parametrize(
    ("variant", "genotype"), [("analytic", ANALYTIC), ("random", Genotype(1.0, (1.0, 1.0, 1.0)))], ids=["analytic", "random"]
)
def test_a_variant_that_does_not_evolve_scores_its_one_wiring(variant, genotype):
    asked = scorer()
    (record,) = evolve(config(variant=variant), SPACE, 0, asked)
    assert asked.scored == [(0, 0)]
    assert record.candidate.genotype == genotype
    assert record.fitness == record.score.L_ce
    assert record.state is None
    assert n_candidates(config(variant=variant), SPACE) == 1


def test_random_search_fills_the_bounds_evenly_and_learns_nothing(monkeypatch):
    monkeypatch.setattr(loop, "CmaEs", lambda *arguments: pytest.fail("CMA-ES was asked"))
    cfg = config(variant="random_search", n_generations=40)
    records = evolve(cfg, SPACE, 0, scorer())
    assert [r.candidate for r in evolve(cfg, SPACE, 0, made_up.Scorer(lambda c: failed("")))] == [r.candidate for r in records]
    assert all(r.state is None for r in records)
    factors = np.log(
        [[r.candidate.genotype.sigma_O, *r.candidate.genotype.sigma_X] for r in records] / np.array([0.2, 0.1, 0.3, 0.4])
    )
    shares = factors / math.log(4.0)
    assert (abs(shares) <= 1).all()
    assert (np.histogram(shares, 4, (-1, 1))[0] > 160).all()  # of 800, 200 in each quarter are expected
    assert all(r.fitness == pytest.approx(loop.fitness(r.score, r.decay, config()), nan_ok=True) for r in records)


def test_every_record_of_cma_es_says_from_which_distribution_it_was_drawn():
    records = evolve(config(), SPACE, 0, scorer())
    states = [r.state for r in records[::5]]
    assert all(r.state == states[r.candidate.generation] for r in records)
    assert (states[0].step_size, states[0].axis_ratio) == (0.3, pytest.approx(1, abs=1e-3))
    np.testing.assert_allclose(states[0].means, np.log([0.2, 0.1, 0.3, 0.4]))
    np.testing.assert_allclose(states[0].stds, [0.3] * 4, rtol=1e-3)
    assert len(set(states)) == 4
