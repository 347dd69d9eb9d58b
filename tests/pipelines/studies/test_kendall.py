import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from pipelines.studies.kendall import OF_SCORE, _quality, rank_correlations, reliability


def candidates(L_ce, R_T, R_S, accuracy, proxy=None, status=None, seed=0, **others):
    n = len(L_ce)
    values = {"E": ["1"] * n, "seed": [seed] * n, "candidate": list(map(str, range(n))), "status": status or ["ok"] * n}
    values |= {"L_ce": L_ce, "R_T": R_T, "R_S": R_S}
    values |= {"proxy_accuracy": proxy or [0.0] * n, "test_accuracy": accuracy}
    return pd.DataFrame(dict.fromkeys(OF_SCORE, [1.0] * n) | values | others)


def taus(frame, cfg):
    found = rank_correlations(frame, cfg)
    return dict(zip(found["fitness"], found["tau"], strict=True))


@pytest.fixture
def cfg(make_params):
    return make_params(evolve={"a": 1.0, "b": 1.0}).evolve


def test_each_variant_ranks_by_its_own_terms(cfg):
    # L_ce alone ranks exactly the wrong way round; R_T puts it right, R_S is too weak to.
    found = taus(candidates([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 4.0, 6.0], [0.1] * 4, [0.1, 0.2, 0.3, 0.4]), cfg)
    assert found["baseline"] == pytest.approx(-1)
    assert found["baseline+R_S"] == pytest.approx(-1)
    assert found["baseline+R_T"] == pytest.approx(1)
    assert found["ste"] == pytest.approx(1)


def test_tau_counts_pairs_in_order_less_pairs_out_of_order(cfg):
    accuracy, losses = [0.9, 0.6, 0.7, 0.1], [1.0, 2.0, 3.0, 4.0]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    agree = sum((losses[i] < losses[j]) == (accuracy[i] > accuracy[j]) for i, j in pairs)
    expected = (2 * agree - len(pairs)) / len(pairs)
    assert taus(candidates(losses, [0.0] * 4, [0.0] * 4, accuracy), cfg)["baseline"] == pytest.approx(expected)


def test_failed_candidates_are_left_out_and_too_few_give_no_tau(cfg):
    frame = candidates(
        [1.0, 2.0, 3.0, math.nan], [0.0] * 4, [0.0] * 4, [0.3, 0.2, 0.1, math.nan], status=["ok"] * 3 + ["failed: nan"]
    )
    assert taus(frame, cfg)["baseline"] == pytest.approx(1)
    assert all(math.isnan(tau) for tau in taus(frame[1:], cfg).values())


def quality(losses, accuracy, cfg):
    frame = candidates(losses, [0.0] * len(losses), [0.0] * len(losses), accuracy)
    return rank_correlations(frame, cfg).set_index("fitness").loc["baseline"]


def test_the_better_half_and_the_regret_are_those_of_the_final_accuracies(cfg):
    # Of the five candidates the better three are ranked the wrong way round, the others rightly below them.
    found = quality([3.0, 2.0, 1.0, 4.0, 5.0], [0.9, 0.8, 0.7, 0.2, 0.1], cfg)
    assert found["tau_better"] == pytest.approx(-1)
    assert found["tau"] == pytest.approx((7 - 3) / 10)
    assert found["regret"] == pytest.approx(0.9 - 0.7)


def test_the_standard_error_of_tau_is_that_of_tau_over_many_samples():
    random, taus, errors = np.random.default_rng(0), [], []
    for _ in range(40):
        accuracy = random.uniform(0.4, 0.8, 20)
        found = _quality(accuracy - random.normal(0, 0.1, 20), accuracy)
        taus.append(found["tau"])
        errors.append(found["tau_se"])
    assert np.mean(errors) == pytest.approx(np.std(taus, ddof=1), rel=0.3)


def trained_twice(first, second, **others):
    """Both trainings of candidates whose L_ce falls with their number."""
    n = len(first)
    parts = [candidates([1.0 - 0.01 * i for i in range(n)], [0.0] * n, [0.0] * n, accuracy) for accuracy in (first, second)]
    return pd.concat([part.assign(training=str(k), **others) for k, part in enumerate(parts, 1)], ignore_index=True)


def test_a_candidates_accuracy_is_the_mean_of_its_trainings(cfg):
    # Each training alone has a pair out of order; the means have none.
    assert taus(trained_twice([0.1, 0.4, 0.3], [0.3, 0.1, 0.5]), cfg)["baseline"] == pytest.approx(1)


def test_means_that_are_equal_but_for_rounding_are_ties(cfg):
    first, second = [0.1, 0.15, 0.25, 0.3], [0.2, 0.15, 0.05, 0.4]  # (0.1 + 0.2) / 2 is 0.15000000000000002
    assert (first[0] + second[0]) / 2 != first[1]
    ranking = [1.0, 2.0, 3.0, 4.0]
    frame = trained_twice(first, second)
    assert taus(frame, cfg)["baseline"] == pytest.approx(kendalltau(ranking, [1, 1, 1, 2]).statistic)


def test_a_candidate_of_which_one_training_failed_is_left_out(cfg):
    frame = trained_twice([0.9, 0.1, 0.2, 0.3], [0.9, 0.1, 0.2, 0.3])
    frame.loc[0, ["status", "test_accuracy"]] = ["failed: nan", math.nan]
    found = rank_correlations(frame, cfg)
    assert set(found["candidates"]) == {3}
    assert found.set_index("fitness").loc["baseline", "tau"] == pytest.approx(1)
    assert reliability(frame).iloc[0]["candidates"] == 3


def test_reliability_is_the_share_of_the_variance_that_is_the_candidates_own():
    random, n = np.random.default_rng(0), 4000
    true = random.normal(0.6, 0.03, n)
    first, second = (true + random.normal(0, 0.02, n) for _ in range(2))
    found = reliability(trained_twice(first, second)).iloc[0]
    assert found["reliability"] == pytest.approx(9 / (9 + 4), abs=0.03)
    assert found["reliability_of_mean"] == pytest.approx(9 / (9 + 2), abs=0.03)
    assert found["tau_ceiling"] == pytest.approx(kendalltau(true, (first + second) / 2).statistic, abs=0.02)
    assert found["tau_repeat"] == pytest.approx(kendalltau(first, second).statistic)
    assert found["accuracy_sd"] == pytest.approx(np.std((first + second) / 2, ddof=1))
    assert found["random_regret"] == pytest.approx(np.max((first + second) / 2) - np.mean((first + second) / 2))


def test_reliability_does_not_depend_on_the_lengths_of_the_proxy_and_is_of_each_seed():
    frame = trained_twice([0.1, 0.2, 0.4], [0.1, 0.2, 0.4])
    both = pd.concat([frame, frame.assign(E="5"), frame.assign(seed=1, test_accuracy=[0.1, 0.2, 0.4, 0.4, 0.2, 0.1])])
    found = reliability(both)
    assert found["seed"].tolist() == [0, 1]
    assert found["reliability"].tolist() == pytest.approx([1, -1], abs=0.1)
    assert found["tau_ceiling"].tolist() == pytest.approx([1, 0])


def test_one_training_of_each_has_no_reliability_and_equal_accuracies_have_none_either():
    frame = trained_twice([0.1, 0.2, 0.4], [0.1, 0.2, 0.4])
    assert reliability(frame[frame["training"] == "1"]).empty
    row = reliability(trained_twice([0.1] * 3, [0.2] * 3)).iloc[0]
    assert row["status"].startswith("failed") and math.isnan(row["tau_ceiling"])
