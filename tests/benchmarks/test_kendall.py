import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from benchmarks.kendall import measure_ranking, measure_reliability, rank_correlations


def candidates(L_ce, accuracy, R_T=0.0, R_S=0.0, training=1):
    """One training of each candidate."""
    n = len(L_ce)
    values = {"E": 1, "seed": 0, "candidate": range(n), "status": "ok", "training": training, "proxy_accuracy": 1.0}
    return pd.DataFrame(values | {"L_ce": L_ce, "R_T": R_T, "R_S": R_S, "test_accuracy": accuracy})


def trained_twice(first, second):
    """Both trainings of candidates whose L_ce falls with their number."""
    L_ce = [1.0 - 0.01 * i for i in range(len(first))]
    return pd.concat([candidates(L_ce, first), candidates(L_ce, second, training=2)], ignore_index=True)


def ranked(cells):
    """The rows of rank_correlations by fitness."""
    return rank_correlations(cells, 1.0, 1.0).set_index("fitness")


def test_tau_of_each_variant_the_better_half_and_the_regret_by_hand():
    # L_ce alone ranks exactly the wrong way round; R_T puts it right, R_S is too weak to.
    tau = ranked(candidates([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4], [0.0, 2.0, 4.0, 6.0], 0.1))["tau"]
    assert (tau["baseline"], tau["baseline+R_S"]) == (pytest.approx(-1), pytest.approx(-1))
    assert (tau["baseline+R_T"], tau["ste"]) == (pytest.approx(1), pytest.approx(1))
    # Of the five candidates the better three are ranked the wrong way round, the others rightly below them.
    row = ranked(candidates([3.0, 2.0, 1.0, 4.0, 5.0], [0.9, 0.8, 0.7, 0.2, 0.1])).loc["baseline"]
    assert row["tau"] == pytest.approx((7 - 3) / 10)  # pairs in order minus pairs out of order
    assert row["tau_better"] == pytest.approx(-1)
    assert row["regret"] == pytest.approx(0.9 - 0.7)


def test_the_standard_error_of_tau_is_its_deviation_over_many_samples():
    random, taus, errors = np.random.default_rng(0), [], []
    for _ in range(40):
        accuracy = random.uniform(0.4, 0.8, 20)
        row = measure_ranking(accuracy - random.normal(0, 0.1, 20), accuracy)
        taus.append(row["tau"])
        errors.append(row["tau_se"])
    assert np.mean(errors) == pytest.approx(np.std(taus, ddof=1), rel=0.3)


def test_accuracies_are_means_and_differ_by_more_than_rounding():
    # Each training alone has a pair out of order; the means have none.
    assert ranked(trained_twice([0.1, 0.4, 0.3], [0.3, 0.1, 0.5])).loc["baseline", "tau"] == pytest.approx(1)
    first, second = [0.1, 0.15, 0.25, 0.3], [0.2, 0.15, 0.05, 0.4]  # (0.1 + 0.2) / 2 is 0.15000000000000002
    tau = kendalltau([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 2]).statistic
    assert ranked(trained_twice(first, second)).loc["baseline", "tau"] == pytest.approx(tau)


def test_a_candidate_with_a_failed_training_is_left_out():
    cells = trained_twice([0.9, 0.1, 0.2, 0.3], [0.9, 0.1, 0.2, 0.3])
    cells.loc[0, ["status", "test_accuracy"]] = ["failed: nan", math.nan]
    rows = ranked(cells)
    assert set(rows["candidates"]) == {3} and rows.loc["baseline", "tau"] == pytest.approx(1)
    assert math.isnan(rows.loc["proxy accuracy", "tau"])  # all are alike
    assert measure_reliability(cells).iloc[0]["candidates"] == 3
    cells.loc[1, "status"] = "failed: nan"
    assert ranked(cells)["tau"].isna().all()


def test_reliability_is_the_candidates_share_of_the_variance():
    random, n = np.random.default_rng(0), 4000
    true = random.normal(0.6, 0.03, n)
    first, second = (true + random.normal(0, 0.02, n) for _ in range(2))
    row, means = measure_reliability(trained_twice(first, second)).iloc[0], (first + second) / 2
    assert row["reliability"] == pytest.approx(9 / (9 + 4), abs=0.03)
    assert row["reliability_of_mean"] == pytest.approx(9 / (9 + 2), abs=0.03)
    assert row["tau_ceiling"] == pytest.approx(kendalltau(true, means).statistic, abs=0.02)
    assert row["tau_repeat"] == pytest.approx(kendalltau(first, second).statistic)
    assert row["accuracy_sd"] == pytest.approx(np.std(means, ddof=1))
    assert row["random_regret"] == pytest.approx(np.max(means) - np.mean(means))


def test_reliability_is_by_seed_and_needs_several_trainings_that_differ():
    cells = trained_twice([0.1, 0.2, 0.4], [0.1, 0.2, 0.4])
    other = cells.assign(seed=1, test_accuracy=[0.1, 0.2, 0.4, 0.4, 0.2, 0.1])
    rows = measure_reliability(pd.concat([cells, cells.assign(E=5), other]))
    assert rows["seed"].tolist() == [0, 1]
    assert rows["reliability"].tolist() == pytest.approx([1, -1], abs=0.1)
    assert rows["tau_ceiling"].tolist() == pytest.approx([1, 0])
    assert measure_reliability(cells[cells["training"] == 1]).empty
    assert math.isnan(measure_reliability(trained_twice([0.1] * 3, [0.2] * 3)).iloc[0]["tau_ceiling"])
