"""Evolutions whose scores are known beforehand."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from gee_core.config import Shape
from gee_core.config.evolve import Rescore
from gee_core.errors import InputError
from gee_core.evolution import loop
from gee_core.evolution.candidate import Candidate, Failure, Price, Record, Score, failed
from gee_core.evolution.loop import costs, evolve, n_candidates
from gee_core.evolution.price import Allowance
from gee_core.evolution.search import CmaEs, RandomSearch
from gee_core.evolution.winner import winner
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


def shuffled(candidates):
    return random.Random(0).sample(candidates, len(candidates))


def scorer(order=shuffled) -> made_up.Scorer:
    return made_up.Scorer(measure, order)


@pytest.fixture(scope="module")
def whole() -> list[Record]:
    return evolve(config(), SPACE, 0, scorer())


@pytest.mark.parametrize("kept", [slice(10), slice(7), slice(None, None, 2), slice(20)])  # also half of a generation
def test_a_run_that_takes_over_some_of_the_records_equals_one_that_never_stopped(kept, whole):
    assert any(not record.ok for record in whole)
    known = {r.candidate.key: (r.score, r.seconds) for r in whole[kept]}
    asked = scorer(lambda candidates: candidates)
    assert repr(evolve(config(), SPACE, 0, asked, known)) == repr(whole)  # NaN is not equal to itself
    assert sorted(asked.scored) == sorted(r.candidate.place for r in whole if r.candidate.key not in known)


def test_the_key_of_a_score_has_every_gene_and_the_seed():
    genotypes = [ANALYTIC, replace(ANALYTIC, shape=Shape(beta=0.5)), replace(ANALYTIC, settings=(("lr", 0.01),))]
    genotypes += [replace(ANALYTIC, sigma_O=0.3), replace(ANALYTIC, settings=(("lr", 0.02),))]
    keys = {Candidate(0, 0, seed, genotype).key for genotype in genotypes for seed in (1, 2)}
    assert len(keys) == 2 * len(genotypes)


def test_a_genotype_in_place_of_a_space_is_the_start_of_a_search_of_the_named_genes():
    cfg = config(genes=["wiring"], bound=4.0)
    assert repr(evolve(cfg, ANALYTIC, 0, scorer())) == repr(evolve(cfg, SPACE, 0, scorer()))


def test_a_candidate_without_a_score_is_one_message():
    with pytest.raises(InputError, match=r"^score_all: candidate 0-0 has no score: yield a score of every candidate$"):
        evolve(config(), SPACE, 0, lambda candidates: iter(()))


def test_a_known_score_is_never_that_of_another_wiring(whole):
    known = {r.candidate.key: (r.score, r.seconds) for r in whole}
    best = min(whole[:5], key=lambda r: r.fitness)
    known[best.candidate.key] = replace(best.score, L_ce=9.0), 1.0  # repeated with another result: the search takes another way
    changed, asked = evolve(config(), SPACE, 0, scorer(), known), {r.candidate.place: r for r in whole}
    moved = [r for r in changed[5:] if r.candidate.genotype != asked[r.candidate.place].candidate.genotype]
    assert len(moved) == 15
    assert [repr(r.score) for r in moved] == [repr(measure(r.candidate)) for r in moved]


def test_records_have_the_fitness_of_their_own_lambda_and_a_seed_by_generation(whole):
    assert len(whole) == n_candidates(config(), SPACE) and n_candidates(config(population_size=None), SPACE) == 4 * 8
    assert [r.candidate.place for r in whole] == [(g, i) for g in range(4) for i in range(5)]
    start = whole[0].candidate.genotype
    np.testing.assert_allclose([start.sigma_O, *start.sigma_X], [0.2, 0.1, 0.3, 0.4])
    for r in whole:
        s, decay = measure(r.candidate), math.exp(-r.candidate.generation / 2)
        assert (r.decay, r.seconds) == (decay, 1.5)
        assert r.fitness == pytest.approx(s.L_ce - decay * (0.1 * s.R_T + 0.2 * s.R_S), nan_ok=True)
        assert r.ok == (s.status == "ok") == math.isfinite(r.fitness)
    records = [*whole, *evolve(config(), SPACE, 1, scorer())]
    seeds = [{r.candidate.seed for r in records[i : i + 5]} for i in range(0, 40, 5)]
    assert [len(shared) for shared in seeds] == [1] * 8 and len(set.union(*seeds)) == 8
    assert all(0 <= r.candidate.seed < 2**31 for r in records)


@pytest.mark.parametrize(("variant", "genotype"), [("analytic", ANALYTIC), ("random", Genotype(1.0, (1.0, 1.0, 1.0)))])
def test_a_variant_that_does_not_evolve_scores_its_one_wiring(variant, genotype):
    (record,) = evolve(config(variant=variant), SPACE, 0, scorer())
    assert record.candidate.place == (0, 0) and record.candidate.genotype == genotype
    assert record.fitness == record.score.L_ce and record.state == {}
    assert n_candidates(config(variant=variant), SPACE) == 1


def test_random_search_fills_the_bounds_evenly_and_learns_nothing():
    cfg = config(variant="random_search", n_generations=40)
    records = evolve(cfg, SPACE, 0, scorer())
    assert [r.candidate for r in evolve(cfg, SPACE, 0, made_up.Scorer(lambda c: failed("")))] == [r.candidate for r in records]
    assert all(r.state == {} for r in records)
    sigmas = np.array([[r.candidate.genotype.sigma_O, *r.candidate.genotype.sigma_X] for r in records])
    shares = np.log(sigmas / [0.2, 0.1, 0.3, 0.4]) / math.log(4.0)
    assert (abs(shares) <= 1).all()
    assert (np.histogram(shares, 4, (-1, 1))[0] > 160).all()  # of 800, 200 in each quarter are expected
    assert all(r.fitness == pytest.approx(loop.fitness(r.score, r.decay, config()), nan_ok=True) for r in records)


def test_every_record_of_cma_es_says_from_which_distribution_it_was_drawn(whole):
    states = [list(r.state.values()) for r in whole[::5]]
    assert all(list(r.state.values()) == states[r.candidate.generation] for r in whole)
    np.testing.assert_allclose(states[0], [0.3, 1.0, *np.log([0.2, 0.1, 0.3, 0.4]), *[0.3] * 4], rtol=1e-3)
    assert len(set(map(tuple, states))) == 4


class Own:
    """A user's search, which asks another."""

    def __init__(self, inner):
        self.inner, self.tell = inner, lambda vectors, values: inner.tell([np.array(x) for x in vectors], values)

    def ask(self):
        return [x.tolist() for x in self.inner.ask()]

    mean = property(lambda self: self.inner.mean)
    state = property(lambda self: self.inner.state)


class Asks:
    """A user's search that asks for these generations."""

    mean, state = None, {}

    def __init__(self, *generations):
        self.generations, self.told = list(generations), []

    def ask(self):
        return self.generations.pop(0)

    def tell(self, vectors, values):
        self.told.append((vectors, values))


def cma_es(seed: int = 0) -> CmaEs:
    return CmaEs(SPACE, 0.3, 5, seed)


RESCORE = {"rescore": Rescore(top=2, draws=2)}
INNER = {"ste": (cma_es, {}), "random_search": (lambda: RandomSearch(SPACE, 5, 0), {"variant": "random_search"})}


@pytest.mark.parametrize("name", INNER)
def test_a_users_search_that_asks_a_built_in_search_gives_its_records(name):
    make, changes = INNER[name]
    cfg = config(**changes, **RESCORE)
    built_in = evolve(cfg, SPACE, 0, made_up.Scorer(measure))
    for n in (0, 5, 12, len(built_in) - 1):  # also in the middle of a generation, and of the fresh draws
        known = {r.candidate.key: (r.score, r.seconds) for r in built_in[:n]}
        asked = made_up.Scorer(measure)
        assert repr(evolve(cfg, SPACE, 0, asked, known, search=Own(make()))) == repr(built_in)
        assert asked.scored == [r.candidate.place for r in built_in[n:]]


def test_a_users_search_that_asks_for_others_than_before_is_refused(whole):
    known = {r.candidate.key: (r.score, r.seconds) for r in whole[:7]}
    asked = scorer()
    with pytest.raises(InputError, match="other candidates in generation 0 than before the interruption: give it a fixed seed"):
        evolve(config(), SPACE, 0, asked, known, search=Own(cma_es(seed=1)))
    assert asked.scored == []
    assert len(evolve(config(), SPACE, 0, scorer(), known)) == 20  # what a built-in search leaves unused is its own affair


def test_a_users_search_gets_its_own_vectors_with_their_costs():
    start, far = SPACE.start_vector(), np.full(4, 99.0)
    search = Asks([start], [far, start, tuple(start)])
    records = evolve(config(n_generations=2, variant="analytic"), SPACE, 0, scorer(), search=search)
    assert [r.candidate.place for r in records] == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert records[1].candidate.genotype == SPACE.genotype(SPACE.bounds()[1])
    (_, first), (vectors, values) = search.told
    assert vectors[0] is far and repr([*first, *values]) == repr([r.fitness for r in records])


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Asks([[0.0] * 3]), r"search: ask\(\) returned 3 coordinates, the space has 4 genes: give flat vectors .* sigma_O, "),
        (Asks([0.0] * 4), r"search: ask\(\) returned 1 coordinates, the space has 4 genes"),
        (Asks([{"sigma_O": 0.0}]), r"search: ask\(\) returned 1 coordinates, the space has 4 genes"),
        (Asks([[0.0] * 4, [0.0, math.nan, 0.0, 0.0]]), r"search: ask\(\) returned \[0.0, nan, .*\], which is not finite: give"),
        (Asks([]), r"search: ask\(\) returned an empty generation: give"),
        (random.Random(0), r"search: Random has no ask, tell, mean, state: write it as gee_core.Search has it"),
    ],
)
def test_a_search_that_is_none_or_that_asks_for_no_vectors_of_the_space_is_refused(search, message):
    with pytest.raises(InputError, match=message):
        evolve(config(), SPACE, 0, scorer(), search=search)


def test_the_dead_cost_more_than_the_living_and_those_outside_more_than_the_dead():
    scores = [measured(2.0), measured(2.5, dead=True), measured(3.0, dead=True), failed("x")]
    scores += [replace(failed("", Failure.BUDGET), excess=part) for part in (0.25, 0.5)]
    cfg = config(variant="baseline")
    records = [Record(Candidate(0, i, 0, ANALYTIC), s, 1.0, loop.fitness(s, 1.0, cfg), 0.0) for i, s in enumerate(scores)]
    told = costs(records)
    assert told[0] == 2.0 and math.isnan(told[3])
    assert [told[i] for i in (0, 1, 2, 4, 5)] == [2.0, 4.5, 5.0, 5.25, 5.5]
    assert costs(records[1:3]) == [2.5, 3.0] and costs(records[4:]) == [0.25, 0.5]


def sized(genotype: Genotype) -> Price:
    return Price(int(1000 * genotype.sigma_O), 1, 1, genotype.sigma_O)


WITHIN = replace(SPACE, allowance=Allowance({"parameters": 150, "energy_uj": 0.2 / 1.25}, sized))


def lower_is_worse(c: Candidate) -> Score:
    return measured(1 / c.genotype.sigma_O, energy_uj=1.1 * c.price.energy_uj)


def test_what_is_outside_is_not_trained_and_the_search_moves_into_the_budget():
    cfg = config(variant="baseline", n_generations=8, population_size=8)
    records = evolve(cfg, WITHIN, 3, asked := made_up.Scorer(lower_is_worse))
    assert asked.scored == [r.candidate.place for r in records if r.ok]
    first = records[0].score
    assert first.status == "outside: parameters = 200 of 150, energy_uj = 0.2 of 0.16"
    assert (first.excess, first.failure, first.image_passes) == (pytest.approx(1 / 3 + 1 / 4), Failure.BUDGET, 0)
    within = [[r.ok for r in records if r.candidate.generation == g] for g in range(8)]
    assert sum(within[-1]) > sum(within[0])
    best = winner(records, cfg).candidate
    assert best.genotype.sigma_O <= 0.151 and best.price == sized(best.genotype)


@pytest.mark.parametrize("space", [WITHIN, made_up.NARROWED], ids=["outside", "narrowed"])
@pytest.mark.parametrize("variant", ["baseline", "random_search"])
def test_a_resumed_search_under_a_budget_equals_an_uninterrupted_one(space, variant):
    cfg, asked = config(variant=variant, **RESCORE), made_up.Scorer(lower_is_worse)
    records = evolve(cfg, space, 0, asked)
    for n in (0, 7, len(records) - 3):
        known = {r.candidate.key: (r.score, r.seconds) for r in records[:n]}
        again = made_up.Scorer(lower_is_worse, shuffled)
        assert repr(evolve(cfg, space, 0, again, known)) == repr(records)
        assert sorted(again.scored) == sorted({*asked.scored} - {r.candidate.place for r in records[:n]})
