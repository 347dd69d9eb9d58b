"""Who wins: the best of the search, or of what is scored again on fresh draws."""

import math
from dataclasses import replace

import pytest

from gee_core.config.evolve import Rescore
from gee_core.evolution.candidate import Candidate, Record, Score, failed
from gee_core.evolution.loop import evolve, n_candidates
from gee_core.evolution.winner import HEADROOM, candidates_to_rescore, final_fitness, fresh_fitness, winner
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed
from tests.gee_core.evolution.made_up import ANALYTIC, NARROWED, SPACE, Scorer, area, config, measured

NAN = math.nan
RESCORE = {"rescore": Rescore(top=3, draws=2)}


def record(generation: int, index: int, L_ce: float, R_T: float = 0.0, status: str = "ok", **others) -> Record:
    score, decay = measured(L_ce, R_T, status=status), math.exp(-generation / 2)
    return Record(Candidate(generation, index, 0, ANALYTIC, **others), score, decay, L_ce - decay * 0.1 * R_T, 0.0)


def test_the_winner_is_the_best_when_all_are_compared_at_the_last_lambda():
    early, late = record(0, 0, 1.0, 10.0), record(4, 0, 0.5)
    assert early.fitness < late.fitness  # by the greater weight of its reward alone
    assert winner([early, late], config()) is late
    assert winner([early, record(0, 1, 0.5)], config()) is early  # one generation: its own λ


def test_the_winner_is_the_first_of_equals_and_never_a_failure():
    failures = [record(0, i, NAN, NAN, "failed: loss is nan") for i in range(2)]
    records = [failures[0], record(0, 1, 2.0), record(0, 2, 1.0), record(0, 3, 1.0)]
    assert winner(records, config()) is records[2]
    with pytest.raises(ValueError, match="all 2 candidates failed; the first: failed: loss is nan"):
        winner(failures, config())


def groups(**draws: list[float]) -> list[Record]:
    """Two candidates of a search, and what was scored again; NaN is a failed draw."""
    records, index = [record(0, 0, 1.0), record(0, 1, 0.5)], 0
    for what, values in draws.items():
        for draw, L in enumerate(values):
            status = "ok" if L == L else "failed: x"
            records.append(record(1, index, L, status=status, rescored=what, draw=draw))
            index += 1
    return records


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ({"a": [1.0, 3.0], "b": [1.5, 1.6]}, ("b", 0)),  # the mean decides, not the luckiest draw
        ({"a": [3.0, 1.0], "mean": [2.5, 2.5]}, ("a", 1)),  # and then the best draw
        ({"a": [0.1, NAN], "b": [7.0, 6.0]}, ("b", 1)),  # a failed draw loses
        ({"a": [1.0, 1.0], "b": [1.0, 1.0]}, ("a", 0)),
    ],
)
def test_the_least_mean_over_fresh_draws_wins_and_of_it_the_best_draw(draws, expected):
    best = winner(groups(**draws), config()).candidate
    assert (best.rescored, best.draw) == expected


def test_where_a_draw_of_each_failed_the_winner_of_the_search_stands():
    records = groups(a=[0.1, NAN], b=[NAN, NAN])
    assert winner(records, config()) is records[1]
    assert fresh_fitness(records, config()) == {}


def test_a_dead_network_wins_only_where_all_are_dead():
    dead = [replace(r, score=replace(r.score, dead=True)) for r in (record(0, 0, 0.5), record(0, 1, 0.4))]
    assert winner([*dead, alive := record(0, 2, 3.0)], config()) is alive
    assert winner(dead, config()) is dead[1]
    draw = replace(dead[0], candidate=Candidate(1, 0, 0, ANALYTIC, rescored="0-0"))
    assert winner([alive, record(0, 1, 4.0), draw], config()) is alive  # a draw that is dead loses


def measure(c: Candidate) -> Score:
    """Depends on genotype, seed and index."""
    return measured(abs(math.log(c.genotype.sigma_O / 0.2)) + derive_seed(c.seed, c.index) % 100 / 200)


def run(cfg, measure=measure) -> list[Record]:
    return evolve(cfg, SPACE, 0, Scorer(measure))


@pytest.mark.parametrize("variant", ["ste", "random_search", "analytic"])
def test_the_best_and_the_mean_are_scored_again_on_the_same_fresh_seeds(variant):
    cfg = config(variant=variant, **RESCORE)
    records = run(cfg)
    plain = run(config(variant=variant))
    n = len(plain)
    assert repr(records[:n]) == repr(plain)
    again, finals = [r.candidate for r in records[n:]], final_fitness(plain, cfg)
    places = {}  # of a candidate in its generation
    for generation in range(4):
        ranked = sorted((i for i in range(n) if plain[i].candidate.generation == generation), key=lambda i: finals[i])
        places |= {i: place for place, i in enumerate(ranked)}
    best = [plain[i].candidate for i in sorted(range(n), key=lambda i: (places[i], -plain[i].candidate.generation))[:3]]
    wanted = [*(c.label for c in best), *{"ste": ["0-0", "mean"], "random_search": ["0-0"]}.get(variant, [])]
    assert [(c.rescored, c.draw, *c.place) for c in again] == [(wanted[i // 2], i % 2, 4, i) for i in range(2 * len(wanted))]
    assert [c.genotype for c in again[: 2 * len(best) : 2]] == [c.genotype for c in best]
    assert len({c.genotype for c in again}) == len(wanted)
    if variant == "ste":  # the distribution from which a further generation is drawn
        longer = run(config(n_generations=5))
        assert again[-1].genotype == SPACE.genotype([longer[n].state[f"mean_{gene}"] for gene in SPACE.genes])
    seeds = [c.seed for c in again]
    assert seeds == seeds[:2] * len(wanted) and seeds[0] != seeds[1]
    assert not set(seeds) & {r.candidate.seed for r in plain}
    assert all(r.decay == plain[-1].decay and r.state == {} for r in records[n:])
    assert len(records) == n_candidates(cfg, SPACE)
    assert winner(records, cfg).candidate in again


def test_fewer_than_asked_for_are_enough():
    def fails(c: Candidate) -> Score:
        return measure(c) if c.rescored or c.place in ((1, 2), (3, 4)) else failed("x")

    records = run(config(**RESCORE), fails)
    assert list(dict.fromkeys(r.candidate.rescored for r in records if r.candidate.rescored)) == ["3-4", "1-2", "0-0", "mean"]
    one = config(variant="analytic", rescore=Rescore(top=3, draws=2))
    assert [r.candidate.rescored for r in run(one)] == ["", "0-0", "0-0"]


def test_a_genotype_that_was_found_twice_is_scored_again_once():
    other = replace(record(0, 2, 3.0), candidate=Candidate(0, 2, 0, Genotype(1.0, (1.0,))))
    again = candidates_to_rescore([record(0, 0, 1.0), record(0, 1, 2.0), other], ANALYTIC, config(**RESCORE), 0, SPACE)
    assert [c.rescored for c in again] == ["0-0", "0-0", "0-2", "0-2"]  # 0-1, the start and the mean are 0-0


def test_what_is_scored_again_has_the_width_at_which_its_trained_energy_fits():
    def uses_more(c: Candidate) -> Score:
        factor = 1.2 if c.place == (1, 0) else 1.05
        return measured(1.0 - 0.1 * (c.place == (1, 0)), energy_uj=factor * c.price.energy_uj)

    cfg = config(variant="baseline", rescore=Rescore(top=1, draws=2), n_generations=2, population_size=4)
    records = evolve(cfg, NARROWED, 0, Scorer(uses_more))
    search, again = records[:8], records[8:]
    factors = {"1-0": 1.2, "0-0": 1.05, "mean": (1.2 * 1.05**3) ** 0.25}  # the mean's is that of the last generation
    assert [r.candidate.rescored for r in again] == [name for name in factors for _ in (0, 1)]
    for r in again:
        factor = factors[r.candidate.rescored]
        expected = factor * area(r.candidate.genotype).energy_uj
        assert r.candidate.price.energy_uj == pytest.approx(expected)
        assert 0.97 * 0.01 <= HEADROOM * expected <= 0.01
    drawn = [dict(r.candidate.genotype.settings) for r in (search[4], again[0])]
    assert drawn[0]["v_threshold"] == drawn[1]["v_threshold"] and drawn[0]["width"] > drawn[1]["width"]
