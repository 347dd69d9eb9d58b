"""What evolve writes of its records: the table and the metrics."""

import math
from dataclasses import replace

import pytest

from gee_core.config import Shape
from gee_core.evolution.candidate import Candidate, Price, Record, Score
from gee_core.genome.genotype import Genotype
from pipelines import evolve


def record(generation, index, L_ce, status="ok", state=None, **others):
    candidate = Candidate(generation, index, 17 + index, Genotype(0.5, (0.1, 0.2)), **others)
    return Record(candidate, Score(L_ce, 1.5, 1.0, 3.0, 0.9, 0.4, status, 90), 0.5, L_ce - 0.25, 2.0, 3, state or {})


def again(name, *losses):
    """Fresh draws of a candidate."""
    return [record(1, i, L, rescored=name, draw=i) for i, L in enumerate(losses)]


def test_the_table_has_a_row_per_candidate_and_no_times(make_params):
    params = make_params(evolve={"genes": ["sigma_O", "sigma_X"], "a": 0.5, "b": 0.0})
    state = {"step_size": 0.2, "axis_ratio": 1.5}
    state |= {"mean_sigma_O": -1.0, "mean_sigma_X": -2.0, "std_sigma_O": 0.3, "std_sigma_X": 0.4}
    records = [record(0, 0, 1.0, state=state)]
    records += [record(0, 1, math.nan, "failed: x"), record(0, 2, math.nan, "outside: x"), *again("0-0", 2.0, 1.5)]
    records[0] = replace(records[0], score=replace(records[0].score, energy_uj=0.5))
    records[0] = replace(records[0], candidate=replace(records[0].candidate, price=Price(9, 8, 2, 0.4, 0.3)))
    rows = evolve.table(records, records[-1], params)
    first = {"generation": 0, "index": 0, "rescored": "", "seed": 17, "status": "ok"}
    first |= {"winner": False, "fitness": 0.75}
    first |= {"final_fitness": 0.75, "L_ce": 1.0, "TSE": 1.5, "R_T": 1.0, "var_o": 3.0, "R_S": 0.9, "lambda": 0.5}
    first |= {"proxy_accuracy": 0.4, "epochs": 3, "image_passes": 90, "parameters": 9, "bytes": 8, "steps": 2}
    first |= {
        "energy_uj": 0.5,
        "own_ratio": 0.3,
        "counted_uj": 0.4,
        "excess": 0.0,
        "sigma_O": 0.5,
        "sigma_0": 0.1,
        "sigma_1": 0.2,
    }
    assert list(rows[0].items()) == list((first | Shape().model_dump() | state).items())
    assert [row["status"] for row in rows] == ["ok", "failed: x", "outside: x", "ok", "ok"]
    assert [math.isnan(row["fitness"]) for row in rows] == [False, True, True, False, False]
    assert [math.isnan(row["final_fitness"]) for row in rows] == [False, True, True, False, False]
    assert [row["winner"] for row in rows] == [False, False, False, False, True]
    assert [row["rescored"] for row in rows] == ["", "", "", "0-0", "0-0"]
    assert not {*state, "energy_uj"} & set(rows[4])


def test_the_metrics_count_the_failed_and_name_the_best(make_params):
    params = make_params(evolve={"a": 0.5, "b": 0.0, "budget": {"steps": 2}})
    outside = record(1, 1, math.nan, "outside: steps = 4 of 2")
    records = [record(0, 0, 0.5), record(0, 1, math.nan, "failed: x"), record(1, 0, 1.0)]
    records += [replace(outside, score=replace(outside.score, excess=1.0))]
    best = records[0] = replace(records[0], decay=0.8, fitness=0.1)  # of its own λ; the last one is 0.5
    expected = {"best_fitness": 0.25, "best_L_ce": 0.5, "best_proxy_accuracy": 0.4, "n_candidates": 4, "n_rescored": 0}
    expected |= {"n_failed": 1, "n_outside": 1, "image_passes": 360, "best_generation": 0, "best_index": 0}
    assert list(evolve.metrics(records, best, params).items()) == list(expected.items())


@pytest.mark.parametrize("variant", ["baseline", "random_search", "analytic"])
def test_the_fitness_of_the_best_and_of_the_start_are_means_over_the_same_draws(variant, make_params):
    records = [record(0, 0, 0.1), record(0, 1, 0.2), record(0, 2, math.nan, "failed: x")]
    records += [*again("0-0", 0.9, 0.7), *again("0-1", 0.2, 0.1), *again("mean", 0.3, 0.3) * (variant == "baseline")]
    found = evolve.metrics(records, records[6], make_params(evolve={"variant": variant, "a": 0.0, "b": 0.0}))
    assert (found["best_fitness"], found["best_fitness_sd"]) == (pytest.approx(0.15), pytest.approx(0.05 * 2**0.5))
    assert found.get("start_fitness") == (None if variant == "analytic" else pytest.approx(0.8))
    assert found.get("random_fitness") == pytest.approx(0.15)  # 0-1, the best of the first generation besides the start
    assert (found["best_L_ce"], found["best_generation"], found["best_index"]) == (pytest.approx(0.15), 1, 1)  # one best
    assert found["fresh_draws"] == 2
    n = len(records)
    assert [found[f"n_{name}"] for name in ("candidates", "rescored", "failed")] == [3, n - 3, 1]
    assert found["image_passes"] == 90 * n
