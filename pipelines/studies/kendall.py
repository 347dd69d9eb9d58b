"""Computes Kendall's τ between candidates' fitness and accuracy after full training, for every form of the fitness."""

import pandas as pd
from scipy.stats import kendalltau

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Score
from gee_core.evolution.fitness import fitness, regulariser_decay
from pipelines.studies.plan import EPOCHS

FITNESS = "fitness"
"""Column: the form of the fitness that ranks the candidates, a key of ``FORMS``."""

MEASURED = ("L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy")
"""The numbers of a score from which every form is computed."""

_PAPER = {"fitness": "paper", "temporal": "paper"}
FORMS = {variant: {"variant": variant} | _PAPER for variant in ("baseline", "baseline+R_T", "baseline+R_S", "ste")} | {
    "baseline, TSE": {"variant": "baseline"} | _PAPER | {"fitness": "tse"},
    "baseline+R_T, relative": {"variant": "baseline+R_T"} | _PAPER | {"temporal": "relative"},
    "ste, relative": {"variant": "ste"} | _PAPER | {"temporal": "relative"},
    "ste, TSE, relative": {"variant": "ste", "fitness": "tse", "temporal": "relative"},
}
"""Changes of the section `evolve` that make each form: the paper's variants, and those with other losses and rewards."""

PROXY_ACCURACY = "proxy accuracy"
"""Name of the ranking by accuracy on the hold-out, for comparison with those by fitness."""


def rank_correlations(candidates: pd.DataFrame, cfg: EvolveConfig) -> pd.DataFrame:
    """One row per E, seed and fitness: `tau` between -F at the first generation's λ and the test accuracy; 1 is perfect.

    All forms are computed from the same candidates: the numbers of a score do not depend on the form. Failed candidates are
    left out; `tau` is NaN if fewer than three remain or all are alike.

    Args:
        candidates: columns `E, seed, status, test_accuracy` and ``MEASURED``.
        cfg: has a, b and τ_λ.
    """
    decay = regulariser_decay(0, cfg.tau_lambda)
    rows = []
    for (epochs, seed), group in candidates.groupby([EPOCHS, "seed"], sort=False):
        ok = group[group["status"] == "ok"]
        scores = [Score(*values) for values in ok[list(MEASURED)].itertuples(index=False)]
        rankings = {
            name: [-fitness(score, decay, cfg.model_copy(update=changes)) for score in scores]
            for name, changes in FORMS.items()
        }
        rankings[PROXY_ACCURACY] = ok["proxy_accuracy"].tolist()
        for name, ranking in rankings.items():
            tau = kendalltau(ranking, ok["test_accuracy"]).statistic if len(ok) >= 3 else float("nan")
            status = "ok" if tau == tau else "failed: too few candidates, or all alike"
            rows.append({EPOCHS: epochs, FITNESS: name, "seed": seed, "candidates": len(ok), "tau": tau, "status": status})
    return pd.DataFrame(rows)
