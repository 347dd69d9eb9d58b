"""What evolve writes of its records: the table, the metrics and the genotype."""

import math
from dataclasses import replace

import pytest

from gee_core.config import Shape
from gee_core.evolution.candidate import Candidate, Record, Score, SearchState
from gee_core.genome.genotype import Genotype
from pipelines import evolve


def record(generation, index, L_ce, status="ok", epochs=3, state=None, **others):
    candidate = Candidate(generation, index, 17 + index, Genotype(0.5, (0.1, 0.2)), **others)
    return Record(candidate, Score(L_ce, 1.5, 1.0, 3.0, 0.9, 0.4, status, 90), 0.5, L_ce - 0.25, 2.0, epochs, state)


COLUMNS = [
    *("generation", "index", "rescored", "seed", "status", "winner", "fitness", "final_fitness", "L_ce", "TSE", "R_T", "var_o"),
    *("R_S", "lambda", "proxy_accuracy", "epochs", "image_passes", "sigma_O", "sigma_0", "sigma_1", *Shape.model_fields),
    *("step_size", "axis_ratio", "mean_sigma_O", "mean_sigma_X", "std_sigma_O", "std_sigma_X"),
]


def test_the_table_has_a_row_per_candidate_and_no_times(make_params):
    params = make_params(evolve={"genes": ["sigma_O", "sigma_X"], "a": 0.5, "b": 0.0})
    state = SearchState(0.2, 1.5, (-1.0, -2.0), (0.3, 0.4))
    records = [
        record(0, 0, 1.0, state=state),
        record(0, 1, math.nan, "failed: x"),
        record(0, 2, 0.1, "outside: steps = 4 of 2"),
    ]
    records += [record(1, i, L, rescored="0-0", draw=i) for i, L in enumerate((2.0, 1.5))]
    rows = evolve.table(records, records[-1], params)
    assert list(rows[0]) == COLUMNS
    first = [0, 0, "", 17, "ok", False, 0.75, 0.75, 1.0, 1.5, 1.0, 3.0, 0.9, 0.5, 0.4, 3, 90, 0.5, 0.1, 0.2]
    neutral = [*Shape().model_dump().values()]
    assert list(rows[0].values()) == [*first, *neutral, 0.2, 1.5, -1.0, -2.0, 0.3, 0.4]
    assert rows[1]["status"] == "failed: x"
    assert [math.isnan(row["fitness"]) for row in rows] == [False, True, False, False, False]
    assert [math.isnan(row["final_fitness"]) for row in rows] == [False, True, True, False, False]
    assert [row["winner"] for row in rows] == [False, False, False, False, True]
    assert [row["rescored"] for row in rows] == ["", "", "", "0-0", "0-0"]
    assert all(math.isnan(rows[4][name]) for name in COLUMNS[-6:])


def test_the_metrics_count_the_failed_and_name_the_best(make_params):
    params = make_params(evolve={"a": 0.5, "b": 0.0})
    records = [record(0, 0, 0.5), record(0, 1, math.nan, "failed: x"), record(1, 0, 1.0)]
    best = records[0] = replace(records[0], decay=0.8, fitness=0.1)  # of its own λ; the last one is 0.5
    assert evolve.metrics(records, best, params) == {
        "best_fitness": 0.25,
        "best_L_ce": 0.5,
        "best_proxy_accuracy": 0.4,
        "n_candidates": 3,
        "n_rescored": 0,
        "n_failed": 1,
        "image_passes": 270,
        "best_generation": 0,
        "best_index": 0,
    }


@pytest.mark.parametrize("variant", ["baseline", "random_search", "analytic"])
def test_the_fitness_of_the_start_is_the_mean_over_the_same_draws(variant, make_params):
    records = [record(0, 0, 0.1), record(0, 1, 0.2)]
    again = [("0-0", 0.9), ("0-0", 0.7), ("0-1", 0.2), ("0-1", 0.1)]
    again += [("mean", 0.3), ("mean", 0.3)] if variant == "baseline" else []
    records += [record(1, i, L, rescored=what, draw=i % 2) for i, (what, L) in enumerate(again)]
    found = evolve.metrics(records, records[5], make_params(evolve={"variant": variant, "a": 0.0, "b": 0.0}))
    assert found["best_fitness"] == pytest.approx(0.15)
    assert found.get("start_fitness") == (None if variant == "analytic" else pytest.approx(0.8))
    assert found.get("random_fitness") == pytest.approx(0.15)  # 0-1, the best of the first generation besides the start


def test_the_best_fitness_is_the_mean_over_fresh_draws_with_their_spread(make_params):
    params = make_params(evolve={"variant": "baseline"})
    records = [record(0, 0, 0.1), record(0, 1, math.nan, "failed: x")]
    records += [record(1, i, L, rescored="0-0", draw=i) for i, L in enumerate((0.5, 0.3, 0.1))]
    found = evolve.metrics(records, records[4], params)
    assert (found["best_fitness"], found["best_fitness_sd"]) == (pytest.approx(0.3), pytest.approx(0.2))
    assert (found["n_candidates"], found["n_rescored"], found["n_failed"], found["image_passes"]) == (2, 3, 1, 450)
    assert (found["best_L_ce"], found["best_generation"], found["best_index"]) == (0.1, 1, 2)
