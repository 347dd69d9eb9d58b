"""Computes Kendall's τ between candidates' fitness and accuracy after full training, for every variant of the fitness."""

import pandas as pd
from scipy.stats import kendalltau

from gee_core.config import EvolveConfig
from gee_core.evolution.fitness import FIXED, SWITCHES, fitness, regulariser_decay
from pipelines.studies.plan import EPOCHS

FITNESS = "fitness"
"""Column: the variant whose fitness ranks the candidates."""

PROXY_ACCURACY = "proxy accuracy"
"""Name of the ranking by accuracy on the hold-out, for comparison with those by fitness."""


def rank_correlations(candidates: pd.DataFrame, cfg: EvolveConfig) -> pd.DataFrame:
    """One row per E, seed and fitness: `tau` between -F at the first generation's λ and the test accuracy; 1 is perfect.

    All variants are computed from the same candidates: L_ce, R_T and R_S of a score do not depend on the variant. Failed
    candidates are left out; `tau` is NaN if fewer than three remain or all are alike.

    Args:
        candidates: columns `E, seed, status, L_ce, R_T, R_S, proxy_accuracy, test_accuracy`.
        cfg: has a, b and τ_λ.
    """
    decay = regulariser_decay(0, cfg.tau_lambda)
    rows = []
    for (epochs, seed), group in candidates.groupby([EPOCHS, "seed"], sort=False):
        ok = group[group["status"] == "ok"]
        scores = list(zip(ok["L_ce"], ok["R_T"], ok["R_S"], strict=True))
        rankings = {
            variant: [-fitness(*score, decay, cfg.a, cfg.b, variant) for score in scores]
            for variant in SWITCHES
            if variant not in (*FIXED, "random_search")
        }
        rankings[PROXY_ACCURACY] = ok["proxy_accuracy"].tolist()
        for name, ranking in rankings.items():
            tau = kendalltau(ranking, ok["test_accuracy"]).statistic if len(ok) >= 3 else float("nan")
            status = "ok" if tau == tau else "failed: too few candidates, or all alike"
            rows.append({EPOCHS: epochs, FITNESS: name, "seed": seed, "candidates": len(ok), "tau": tau, "status": status})
    return pd.DataFrame(rows)
