"""Computes how well candidates' fitness ranks them by their accuracy after full training, and how well anything could."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields
from itertools import combinations
from statistics import fmean

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Score
from gee_core.evolution.fitness import fitness, regulariser_decay
from pipelines.studies.plan import CANDIDATE, EPOCHS, TRAINING

FITNESS, TRAININGS = "fitness", "trainings"
"""Columns: the form of the fitness that ranks the candidates; full trainings of each candidate."""

ALIKE = "failed: too few candidates, or all alike"

OF_SCORE = tuple(field.name for field in fields(Score) if field.default is MISSING)
"""The measurements of a score, from which every form is computed."""

OF_FITNESS = ("tau", "tau_se", "tau_better", "regret")
OF_ACCURACY = ("accuracy_sd", "random_regret", "tau_repeat", "reliability", "reliability_of_mean", "tau_ceiling")

FORMS = ("baseline", "baseline+R_T", "baseline+R_S", "ste")
"""The forms of the fitness that are compared, as values of `evolve.variant`."""


def rank_correlations(candidates: pd.DataFrame, cfg: EvolveConfig) -> pd.DataFrame:
    """One row per E, seed and fitness, of the ranking by -F at the first generation's λ.

    - `tau`: with the test accuracy, the mean of a candidate's trainings; 1 is perfect. NaN if fewer than three candidates
      remain or all are alike. `tau_se`: its standard error over the choice of candidates, by the jackknife (NaN below four).
    - `tau_better`: of the half with the higher test accuracy. It is drawn from a narrower range, so that noise counts for more.
    - `regret`: the highest test accuracy less that of the first in the ranking. The highest of noisy values is too high.

    All forms are computed from the same candidates: the numbers of a score do not depend on the form. Candidates of which a
    training failed are left out.

    Args:
        candidates: columns `E, seed, candidate, status, test_accuracy` and ``OF_SCORE``, one row per training.
        cfg: has a, b and τ_λ.
    """
    decay = regulariser_decay(0, cfg.tau_lambda)
    rows = []
    for (epochs, seed), group in candidates.groupby([EPOCHS, "seed"], sort=False):
        ok = _complete(group)
        means = ok.groupby(CANDIDATE, sort=False).agg(dict.fromkeys(OF_SCORE, "first") | {"test_accuracy": "mean"})
        scores = [Score(*values) for values in means[list(OF_SCORE)].itertuples(index=False)]
        rankings = {
            variant: [-fitness(score, decay, cfg.model_copy(update={"variant": variant})) for score in scores]
            for variant in FORMS
        }
        rankings["proxy accuracy"] = means["proxy_accuracy"].tolist()
        for name, ranking in rankings.items():
            found = _quality(np.array(ranking), means["test_accuracy"].to_numpy())
            place = {EPOCHS: epochs, FITNESS: name, "seed": seed, "candidates": len(means)}
            rows.append(place | found | {"status": "ok" if found["tau"] == found["tau"] else ALIKE})
    return pd.DataFrame(rows)


def reliability(candidates: pd.DataFrame) -> pd.DataFrame:
    """One row per seed on the accuracies of candidates that were each trained k times from fresh draws; none if k = 1.

    - `accuracy_sd`: standard deviation of the candidates' mean accuracies; `random_regret`: the highest less their mean.
    - `tau_repeat`: Kendall's τ, and `reliability`: Pearson's r, of two trainings; means over all pairs.
    - `reliability_of_mean`: k·r / (1 + (k-1)·r), of the mean of k trainings (Spearman 1910, Brown 1910); 0 for a negative r.
    - `tau_ceiling`: 2/π · arcsin √(that), the τ with these means of whoever knew every candidate's true accuracy, if both are
      normally distributed (Greiner 1909; Kruskal, Ordinal Measures of Association, JASA 1958).

    Args:
        candidates: as ``rank_correlations`` takes them, with the column `training`.
    """
    rows = []
    for seed, group in candidates.groupby("seed", sort=False):
        of_first = _complete(group[group[EPOCHS] == group[EPOCHS].iloc[0]])  # the trainings do not depend on E
        accuracies = of_first.pivot(index=CANDIDATE, columns=TRAINING, values="test_accuracy")
        n, k = accuracies.shape
        if k < 2:
            continue
        pairs = [(accuracies[a].to_numpy(), accuracies[b].to_numpy()) for a, b in combinations(accuracies, 2)]
        r = fmean(float(np.corrcoef(a, b)[0, 1]) if n >= 3 and np.ptp(a) and np.ptp(b) else math.nan for a, b in pairs)
        of_mean = 0.0 if r < 0 else k * r / (1 + (k - 1) * r)
        means = accuracies.mean(axis="columns")
        tau, ceiling = fmean(_tau(a, b) for a, b in pairs), 2 / math.pi * math.asin(math.sqrt(of_mean))
        numbers = (means.std(ddof=1), means.max() - means.mean(), tau, r, of_mean, ceiling)
        place = {TRAININGS: k, "seed": seed, "candidates": n, "status": "ok" if r == r else ALIKE}
        rows.append(place | dict(zip(OF_ACCURACY, numbers, strict=True)))
    return pd.DataFrame(rows)


def _complete(trainings: pd.DataFrame) -> pd.DataFrame:
    """The rows of the candidates of which no training failed."""
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


def _tau(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    return float(kendalltau(a, b, method="asymptotic").statistic) if len(a) >= 3 else math.nan
