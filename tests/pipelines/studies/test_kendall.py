import math

import pandas as pd
import pytest

from pipelines.studies.kendall import rank_correlations
from pipelines.studies.tables import aggregate


def candidates(L_ce, R_T, R_S, accuracy, proxy=None, status=None, seed=0, **others):
    n = len(L_ce)
    values = {"E": ["1"] * n, "seed": [seed] * n, "status": status or ["ok"] * n, "L_ce": L_ce, "R_T": R_T, "R_S": R_S}
    values |= {"TSE": L_ce, "var_o": [1.0] * n, "proxy_accuracy": proxy or [0.0] * n, "test_accuracy": accuracy}
    return pd.DataFrame(values | others)


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


@pytest.mark.parametrize("own", [{}, {"fitness": "tse", "temporal": "relative"}], ids=["paper", "others"])
def test_other_losses_and_rewards_rank_too_whatever_evolve_used(own, make_params):
    cfg = make_params(evolve={"a": 1.0, "b": 1.0} | own).evolve
    accuracy, wrong = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    frame = candidates(wrong, [9.0, 6.0, 3.0, 0.0], [0.0] * 4, accuracy, TSE=[4.0, 3.0, 2.0, 1.0], var_o=[90.0, 20.0, 2.0, 0.0])
    frame["R_T"] += [0.0, 0.0, 17.0, 0.0]  # relative: 0.1, 0.3, 10, none
    found = taus(frame, cfg)
    assert (found["baseline"], found["baseline, TSE"]) == (pytest.approx(-1), pytest.approx(1))
    assert found["ste"] == pytest.approx(-1 / 3)
    # F relative: 0.9, 1.7, -7, 4
    assert found["ste, relative"] == found["baseline+R_T, relative"] == pytest.approx(-1 / 3)
    # with TSE: 3.9, 2.7, -8, 1
    assert found["ste, TSE, relative"] == pytest.approx(2 / 3)


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


def test_the_table_has_mean_and_spread_over_the_seeds(cfg):
    right = candidates([1.0, 2.0, 3.0], [0.0] * 3, [0.0] * 3, [0.3, 0.2, 0.1])
    wrong = candidates([1.0, 2.0, 3.0], [0.0] * 3, [0.0] * 3, [0.1, 0.2, 0.3], seed=1)
    table = aggregate(rank_correlations(pd.concat([right, wrong]), cfg), ["E", "fitness"], ["tau"]).set_index("fitness")
    assert table.loc["baseline", "tau"] == pytest.approx(0)
    assert table.loc["baseline", "tau_sd"] == pytest.approx(math.sqrt(2))
    assert table.loc["baseline", "n"] == 2
    assert table.loc["proxy accuracy", "n"] == 0  # all alike: no ranking
