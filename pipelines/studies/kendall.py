"""How well candidates' fitness ranks them by their accuracy after full training, and how well any ranking could.

Both functions take one row per full training of a candidate, as `pipelines.studies.reports.cells_frame` makes them: the columns
`E, seed, candidate, status, test_accuracy` and those of `OF_SCORE`. Candidates of which a training failed are left out.
"""

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Score
from gee_core.evolution.fitness import fitness, regulariser_decay

CANDIDATE, EPOCHS, TRAINING, FITNESS, TRAININGS = "candidate", "E", "training", "fitness", "trainings"
"""Columns: a candidate's number, its proxy epochs, the number of one training, the ranking, and the number of trainings."""

OF_SCORE = ("L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy")
"""The measurements of a score. They do not depend on the form of the fitness, so that all forms are compared on them."""
OF_FITNESS = ("tau", "tau_se", "tau_better", "regret")
OF_ACCURACY = ("accuracy_sd", "random_regret", "tau_repeat", "reliability", "reliability_of_mean", "tau_ceiling")

FORMS = ("baseline", "baseline+R_T", "baseline+R_S", "ste")
"""The forms of the fitness that are compared, as values of `evolve.variant`."""

ALIKE = "failed: too few candidates, or all alike"


def rank_correlations(candidates: pd.DataFrame, cfg: EvolveConfig) -> pd.DataFrame:
    """One row per E, seed and fitness: how -F, at the first generation's λ, ranks the candidates.

    - `tau`: Kendall's τ with the test accuracy, the mean of a candidate's trainings. NaN below three candidates.
    - `tau_se`: its standard error over the choice of candidates, by the jackknife. NaN below four.
    - `tau_better`: τ of the half with the higher test accuracy, a narrower range in which noise counts for more.
    - `regret`: the highest test accuracy minus the accuracy of the first in the ranking. Of noisy values it is too high.
    """
    decay = regulariser_decay(0, cfg.tau_lambda)
    forms = {variant: cfg.model_copy(update={"variant": variant}) for variant in FORMS}
    rows = []
    for (epochs, seed), trainings in candidates.groupby([EPOCHS, "seed"], sort=False):
        columns = dict.fromkeys(OF_SCORE, "first") | {"test_accuracy": "mean"}
        means = _complete(trainings).groupby(CANDIDATE, sort=False).agg(columns)
        scores = [Score(*values) for values in means[list(OF_SCORE)].itertuples(index=False)]
        rankings = {name: [-fitness(score, decay, form) for score in scores] for name, form in forms.items()}
        rankings["proxy accuracy"] = means["proxy_accuracy"].tolist()
        for name, ranking in rankings.items():
            numbers = _quality(np.array(ranking), means["test_accuracy"].to_numpy())
            row = {EPOCHS: epochs, FITNESS: name, "seed": seed, "candidates": len(means)} | numbers
            rows.append(row | {"status": ALIKE if math.isnan(numbers["tau"]) else "ok"})
    return pd.DataFrame(rows)


def reliability(candidates: pd.DataFrame) -> pd.DataFrame:
    """One row per seed on the accuracies of candidates that were each trained k times from fresh draws. No row if k = 1.

    - `accuracy_sd`: standard deviation of the candidates' mean accuracies. `random_regret`: the highest minus their mean.
    - `tau_repeat`: Kendall's τ, and `reliability`: Pearson's r, of two trainings; means over all pairs.
    - `reliability_of_mean`: k·r / (1 + (k-1)·r), of the mean of k trainings (Spearman 1910, Brown 1910); 0 for a negative r.
    - `tau_ceiling`: 2/π · arcsin √reliability_of_mean, the τ of the true accuracies with these means, if both are normally
      distributed (Greiner 1909; Kruskal, Ordinal Measures of Association, JASA 1958).
    """
    rows = []
    for seed, trainings in candidates.groupby("seed", sort=False):
        of_first = trainings[trainings[EPOCHS] == trainings[EPOCHS].iloc[0]]  # the trainings do not depend on E
        accuracies = _complete(of_first).pivot(index=CANDIDATE, columns=TRAINING, values="test_accuracy")
        n, k = accuracies.shape
        if k < 2:
            continue
        pairs = [(accuracies[a].to_numpy(), accuracies[b].to_numpy()) for a, b in combinations(accuracies, 2)]
        r = fmean(float(np.corrcoef(a, b)[0, 1]) if n >= 3 and np.ptp(a) and np.ptp(b) else math.nan for a, b in pairs)
        of_mean = 0.0 if r < 0 else k * r / (1 + (k - 1) * r)
        means = accuracies.mean(axis="columns")
        tau, ceiling = fmean(_tau(a, b) for a, b in pairs), 2 / math.pi * math.asin(math.sqrt(of_mean))
        numbers = (means.std(ddof=1), means.max() - means.mean(), tau, r, of_mean, ceiling)
        row = {TRAININGS: k, "seed": seed, "candidates": n, "status": ALIKE if math.isnan(r) else "ok"}
        rows.append(row | dict(zip(OF_ACCURACY, numbers, strict=True)))
    return pd.DataFrame(rows)


def _complete(trainings: pd.DataFrame) -> pd.DataFrame:
    failed = trainings[trainings["status"] != "ok"][CANDIDATE]
    return trainings[~trainings[CANDIDATE].isin(failed)]


def _quality(ranking: np.ndarray, accuracy: np.ndarray) -> dict[str, float]:
    """``OF_FITNESS`` of a ranking, best last."""
    n = len(accuracy)
    if n < 3:
        return dict.fromkeys(OF_FITNESS, math.nan)
    places = accuracy.round(12)  # means that are equal but for their last digit are ties
    without = np.array([_tau(np.delete(ranking, i), np.delete(places, i)) for i in range(n)])
    better = np.argsort(-places, kind="stable")[: (n + 1) // 2]
    return {
        "tau": _tau(ranking, places),
        "tau_se": float(np.sqrt((n - 1) * without.var())),
        "tau_better": _tau(ranking[better], places[better]),
        "regret": float(accuracy.max() - accuracy[ranking.argmax()]),
    }


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(kendalltau(a, b, method="asymptotic").statistic) if len(a) >= 3 else math.nan
