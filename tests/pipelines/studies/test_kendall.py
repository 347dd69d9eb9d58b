import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from pipelines.studies.kendall import OF_SCORE, _quality, rank_correlations, reliability


def candidates(L_ce, accuracy, R_T=0.0, R_S=0.0, training="1"):
    """One training of each candidate."""
    n = len(L_ce)
    values = {"E": "1", "seed": 0, "candidate": list(map(str, range(n))), "status": "ok", "training": training}
    return pd.DataFrame(
        dict.fromkeys(OF_SCORE, 1.0) | values | {"L_ce": L_ce, "R_T": R_T, "R_S": R_S, "test_accuracy": accuracy}
    )


def trained_twice(first, second):
    """Both trainings of candidates whose L_ce falls with their number."""
    L_ce = [1.0 - 0.01 * i for i in range(len(first))]
    return pd.concat(
        [candidates(L_ce, accuracy, training=k) for k, accuracy in (("1", first), ("2", second))], ignore_index=True
    )


@pytest.fixture
def ranked(make_params):
    """The rows of rank_correlations by fitness."""
    cfg = make_params(evolve={"a": 1.0, "b": 1.0}).evolve
    return lambda frame: rank_correlations(frame, cfg).set_index("fitness")


def test_each_variant_ranks_by_its_own_terms(ranked):
    # L_ce alone ranks exactly the wrong way round; R_T puts it right, R_S is too weak to.
    tau = ranked(candidates([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4], [0.0, 2.0, 4.0, 6.0], 0.1))["tau"]
    assert (tau["baseline"], tau["baseline+R_S"]) == (pytest.approx(-1), pytest.approx(-1))
    assert (tau["baseline+R_T"], tau["ste"]) == (pytest.approx(1), pytest.approx(1))


def test_tau_the_better_half_and_the_regret_by_hand(ranked):
    # Of the five candidates the better three are ranked the wrong way round, the others rightly below them.
    row = ranked(candidates([3.0, 2.0, 1.0, 4.0, 5.0], [0.9, 0.8, 0.7, 0.2, 0.1])).loc["baseline"]
    assert row["tau"] == pytest.approx((7 - 3) / 10)  # pairs in order minus pairs out of order
    assert row["tau_better"] == pytest.approx(-1)
    assert row["regret"] == pytest.approx(0.9 - 0.7)


def test_the_standard_error_of_tau_is_the_deviation_of_tau_over_many_samples():
    random, taus, errors = np.random.default_rng(0), [], []
    for _ in range(40):
        accuracy = random.uniform(0.4, 0.8, 20)
        row = _quality(accuracy - random.normal(0, 0.1, 20), accuracy)
        taus.append(row["tau"])
        errors.append(row["tau_se"])
    assert np.mean(errors) == pytest.approx(np.std(taus, ddof=1), rel=0.3)


def test_a_candidates_accuracy_is_the_mean_of_its_trainings(ranked):
    # Each training alone has a pair out of order; the means have none.
    assert ranked(trained_twice([0.1, 0.4, 0.3], [0.3, 0.1, 0.5])).loc["baseline", "tau"] == pytest.approx(1)
    first, second = [0.1, 0.15, 0.25, 0.3], [0.2, 0.15, 0.05, 0.4]  # (0.1 + 0.2) / 2 is 0.15000000000000002
    tau = kendalltau([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 2]).statistic
    assert ranked(trained_twice(first, second)).loc["baseline", "tau"] == pytest.approx(tau)


def test_a_candidate_with_a_failed_training_is_left_out_and_too_few_have_no_tau(ranked):
    frame = trained_twice([0.9, 0.1, 0.2, 0.3], [0.9, 0.1, 0.2, 0.3])
    frame.loc[0, ["status", "test_accuracy"]] = ["failed: nan", math.nan]
    rows = ranked(frame)
    assert (set(rows["candidates"]), set(rows["status"])) == ({3}, {"ok", "failed: too few candidates, or all alike"})
    assert rows.loc["baseline", "tau"] == pytest.approx(1)  # all proxy accuracies are alike
    assert reliability(frame).iloc[0]["candidates"] == 3
    frame.loc[1, "status"] = "failed: nan"
    assert ranked(frame)["tau"].isna().all()


def test_reliability_is_the_share_of_the_variance_that_comes_from_the_candidates():
    random, n = np.random.default_rng(0), 4000
    true = random.normal(0.6, 0.03, n)
    first, second = (true + random.normal(0, 0.02, n) for _ in range(2))
    row, means = reliability(trained_twice(first, second)).iloc[0], (first + second) / 2
    assert row["reliability"] == pytest.approx(9 / (9 + 4), abs=0.03)
    assert row["reliability_of_mean"] == pytest.approx(9 / (9 + 2), abs=0.03)
    assert row["tau_ceiling"] == pytest.approx(kendalltau(true, means).statistic, abs=0.02)
    assert row["tau_repeat"] == pytest.approx(kendalltau(first, second).statistic)
    assert row["accuracy_sd"] == pytest.approx(np.std(means, ddof=1))
    assert row["random_regret"] == pytest.approx(np.max(means) - np.mean(means))


def test_reliability_is_by_seed_whatever_the_proxy_epochs():
    frame = trained_twice([0.1, 0.2, 0.4], [0.1, 0.2, 0.4])
    rows = reliability(
        pd.concat([frame, frame.assign(E="5"), frame.assign(seed=1, test_accuracy=[0.1, 0.2, 0.4, 0.4, 0.2, 0.1])])
    )
    assert rows["seed"].tolist() == [0, 1]
    assert rows["reliability"].tolist() == pytest.approx([1, -1], abs=0.1)
    assert rows["tau_ceiling"].tolist() == pytest.approx([1, 0])
    assert reliability(frame[frame["training"] == "1"]).empty
    alike = reliability(trained_twice([0.1] * 3, [0.2] * 3)).iloc[0]
    assert alike["status"].startswith("failed") and math.isnan(alike["tau_ceiling"])
