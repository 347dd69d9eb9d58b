"""Evolution with a scoring function that is known; what real candidates score stands in ``test_proxy``."""

import math
import random

import numpy as np
import pytest
import torch

from gee_core.config import EvolveConfig
from gee_core.evolution.fitness import fitness
from gee_core.evolution.loop import Record, evolve, population_size, winner
from gee_core.evolution.proxy import Candidate, Score, failed
from gee_core.genome.genotype import Genotype

ANALYTIC = Genotype(0.2, (0.1, 0.3, 0.4))


def config(**changes) -> EvolveConfig:
    values = {"variant": "ste", "genotype": "per_layer", "n_generations": 4, "population_size": 5, "sigma": 0.3}
    values |= {"bound": 4.0, "proxy_epochs": 1, "proxy_images": None, "batch_size": 8, "lr": 0.01, "weight_decay": 0.0}
    values |= {"a": 0.1, "b": 0.2, "tau_lambda": 2.0, "entropy": "absolute", "start": None, "halving": None}
    return EvolveConfig(**(values | changes))


def measure(c: Candidate) -> Score:
    """Depends on every part of the candidate; one in seven fails."""
    if c.seed % 7 == 0:
        return failed("diverged")
    L_ce = 1 + sum(math.log(s / 0.2) ** 2 for s in (c.genotype.sigma_O, *c.genotype.sigma_X)) + c.seed % 100 / 1000
    return Score(L_ce, c.genotype.sigma_O, c.genotype.sigma_X[0], 0.5)


class Scorer:
    """``measure`` as a ``score_all``; notes what it was asked for, and answers in any order."""

    def __init__(self, order=lambda candidates: candidates):
        self.order, self.scored = order, []

    def __call__(self, candidates):
        assert candidates
        for c in self.order(list(candidates)):
            self.scored.append((c.generation, c.index))
            yield c, measure(c), 1.5


def shuffled(candidates):
    return random.Random(0).sample(candidates, len(candidates))


def same(left: list[Record], right: list[Record]) -> bool:
    return repr(left) == repr(right)  # NaN is not equal to itself


def test_a_run_that_takes_over_half_of_the_records_equals_one_that_never_stopped():
    whole = evolve(config(), ANALYTIC, 0, Scorer())
    assert any(not record.ok for record in whole)
    for kept in (whole[:10], whole[:7], whole[::2], whole):  # also a generation that was half done, in any order
        known = {(r.candidate.generation, r.candidate.index): (r.score, r.seconds) for r in kept}
        scorer = Scorer(shuffled)
        assert same(evolve(config(), ANALYTIC, 0, scorer, known), whole)
        assert set(scorer.scored) == {(g, i) for g in range(4) for i in range(5)} - set(known)
        assert len(scorer.scored) == 20 - len(known)


@pytest.mark.parametrize("order", [shuffled, lambda candidates: candidates[::-1]], ids=["shuffled", "reversed"])
def test_the_order_in_which_candidates_are_done_does_not_matter(order):
    assert same(evolve(config(), ANALYTIC, 0, Scorer(order)), evolve(config(), ANALYTIC, 0, Scorer()))


def test_records_are_by_generation_and_index_with_the_fitness_of_their_own_lambda():
    cfg = config()
    records = evolve(cfg, ANALYTIC, 0, Scorer(shuffled))
    assert [(r.candidate.generation, r.candidate.index) for r in records] == [(g, i) for g in range(4) for i in range(5)]
    for r in records:
        s, decay = measure(r.candidate), math.exp(-r.candidate.generation / 2)
        assert r.decay == decay
        assert r.seconds == 1.5
        F = s.L_ce - decay * (0.1 * s.R_T + 0.2 * s.R_S)
        assert r.fitness == pytest.approx(F, nan_ok=True)
        assert r.ok == (s.status == "ok") == math.isfinite(r.fitness)


def test_the_seed_decides_the_candidates_and_each_has_its_own_wiring():
    first, other = evolve(config(), ANALYTIC, 0, Scorer()), evolve(config(), ANALYTIC, 1, Scorer())
    assert same(first, evolve(config(), ANALYTIC, 0, Scorer()))
    seeds = [r.candidate.seed for r in [*first, *other]]
    assert len(set(seeds)) == 40
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len({r.candidate.genotype for r in [*first, *other]}) == 39  # the analytic one is first in both


def test_the_search_starts_at_the_analytic_wiring_and_stays_within_its_bounds():
    records = evolve(config(sigma=2.0, bound=3.0), ANALYTIC, 0, Scorer())
    start = records[0].candidate.genotype
    np.testing.assert_allclose([start.sigma_O, *start.sigma_X], [0.2, 0.1, 0.3, 0.4])
    for r in records:
        ratios = np.array([r.candidate.genotype.sigma_O, *r.candidate.genotype.sigma_X]) / [0.2, 0.1, 0.3, 0.4]
        assert (ratios >= 1 / 3 - 1e-9).all()
        assert (ratios <= 3 + 1e-9).all()


def test_later_generations_learn_from_earlier_ones():
    records = evolve(config(n_generations=25, population_size=8), ANALYTIC, 0, Scorer())
    losses = np.array([r.score.L_ce for r in records]).reshape(25, 8)
    assert np.nanmean(losses[-5:]) < np.nanmean(losses[:5]) - 0.3


def test_a_shared_genotype_has_one_sigma_for_all_encodings():
    records = evolve(config(genotype="shared"), ANALYTIC, 0, Scorer())
    assert all(len(set(r.candidate.genotype.sigma_X)) == 1 for r in records)
    assert len({r.candidate.genotype.sigma_X[0] for r in records}) == 20


@pytest.mark.parametrize(
    ("variant", "genotype"), [("analytic", ANALYTIC), ("random", Genotype(1.0, (1.0, 1.0, 1.0)))], ids=["analytic", "random"]
)
def test_a_variant_that_does_not_evolve_scores_its_one_wiring(variant, genotype):
    scorer = Scorer()
    (record,) = evolve(config(variant=variant), ANALYTIC, 0, scorer)
    assert scorer.scored == [(0, 0)]
    assert record.candidate.genotype == genotype
    assert record.fitness == record.score.L_ce
    assert population_size(config(variant=variant), ANALYTIC, 0) == 1


@pytest.mark.parametrize("wanted", [None, 3])
def test_the_size_of_a_generation_is_known_beforehand(wanted):
    cfg = config(population_size=wanted, n_generations=1)
    assert population_size(cfg, ANALYTIC, 0) == len(evolve(cfg, ANALYTIC, 0, Scorer()))


@pytest.mark.parametrize("variant", ["baseline", "baseline+R_T", "baseline+R_S"])
def test_variants_that_evolve_differ_in_their_fitness_alone(variant):
    ste, other = (evolve(config(variant=v), ANALYTIC, 0, Scorer()) for v in ("ste", variant))
    assert [r.candidate for r in other[:5]] == [r.candidate for r in ste[:5]]
    for r in other:
        expected = fitness(r.score.L_ce, r.score.R_T, r.score.R_S, r.decay, 0.1, 0.2, variant)
        assert r.fitness == pytest.approx(expected, nan_ok=True)


def test_callbacks_see_every_record_as_it_comes_and_every_generation_in_order():
    events = []
    whole = evolve(config(), ANALYTIC, 0, Scorer())
    known = {(1, 3): (whole[8].score, 1.5), (1, 4): (whole[9].score, 1.5)}
    records = evolve(config(), ANALYTIC, 0, Scorer(lambda c: c[::-1]), known, events.append, events.append)
    generations = [event for event in events if isinstance(event, list)]
    assert same([record for generation in generations for record in generation], records)
    place = {id(event): position for position, event in enumerate(events)}
    for t, generation in enumerate(generations):
        assert [r.candidate.index for r in generation] == [0, 1, 2, 3, 4]
        assert place[id(generation)] == 6 * t + 5  # after its five records
    order = [e.candidate.index for e in events[6:11]]
    assert order == [3, 4, 2, 1, 0]  # the known ones first


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    evolve(config(), ANALYTIC, 0, Scorer())
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def record(generation: int, index: int, L_ce: float, R_T: float, status: str = "ok") -> Record:
    score, decay = Score(L_ce, R_T, 0.0, 0.5, status), math.exp(-generation / 2)
    return Record(Candidate(generation, index, 0, ANALYTIC), score, decay, L_ce - decay * 0.1 * R_T, 0.0)


def test_the_winner_is_the_best_when_all_are_compared_at_the_last_lambda():
    early, late = record(0, 0, 1.0, 10.0), record(4, 0, 0.5, 0.0)
    assert early.fitness < late.fitness  # by the greater weight of its reward alone
    assert winner([early, late], config()) is late
    assert winner([early, record(0, 1, 0.5, 0.0)], config()) is early  # one generation: its own λ


def test_the_winner_is_never_one_that_failed_and_the_first_of_equals():
    nan = float("nan")
    records = [record(0, 0, nan, nan, "failed: x"), record(0, 1, 2.0, 0.0), record(0, 2, 1.0, 0.0), record(0, 3, 1.0, 0.0)]
    assert winner(records, config()) is records[2]


def test_there_is_no_winner_where_all_failed():
    nan = float("nan")
    with pytest.raises(ValueError, match="all 2 candidates failed; the first: failed: loss is nan"):
        winner([record(0, i, nan, nan, "failed: loss is nan") for i in range(2)], config())
