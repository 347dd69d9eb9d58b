"""How well a candidate's fitness ranks it by its accuracy after full training, and how well any ranking could (Kendall's τ).

    gee study run candidates
    python -m benchmarks.kendall [reports/studies/candidates/cells.csv] [--a 0.1] [--b 0.1] [--json]

A row of cells.csv is one full training of one candidate. A candidate's accuracy is the mean of its trainings. Candidates of
which a training failed are left out. ``--a`` and ``--b`` are the weights of R_T and R_S in the fitness.
"""

import argparse
import json
import math
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from gee_core.config.evolve import SWITCHES

FORMS = ("baseline", "baseline+R_T", "baseline+R_S", "ste")
"""The forms of the fitness that are compared, as values of `evolve.variant`."""
CELLS = Path("reports/studies/candidates/cells.csv")


def rank_correlations(cells: pd.DataFrame, a: float, b: float) -> pd.DataFrame:
    """One row per E, seed and fitness: how -F, at the first generation's λ, ranks the candidates.

    - `tau`: Kendall's τ with the accuracy. NaN below three candidates.
    - `tau_se`: its standard error over the choice of candidates, by the jackknife. NaN below four.
    - `tau_better`: τ of the half with the higher accuracy, a narrower range in which noise counts for more.
    - `regret`: the highest accuracy minus the accuracy of the first in the ranking. Of noisy values it is too high.
    """
    rows = []
    for (epochs, seed), trainings in cells.groupby(["E", "seed"], sort=False):
        columns = dict.fromkeys(("L_ce", "R_T", "R_S", "proxy_accuracy"), "first") | {"test_accuracy": "mean"}
        means = keep_complete(trainings).groupby("candidate", sort=False).agg(columns)
        rankings = {"proxy accuracy": means["proxy_accuracy"]}
        for form in FORMS:
            use_R_T, use_R_S = SWITCHES[form]
            rankings[form] = a * means["R_T"] * use_R_T + b * means["R_S"] * use_R_S - means["L_ce"]  # Eq. 16, λ = 1
        for name, ranking in rankings.items():
            quality = measure_ranking(ranking.to_numpy(), means["test_accuracy"].to_numpy())
            rows.append({"E": epochs, "fitness": name, "seed": seed, "candidates": len(means)} | quality)
    return pd.DataFrame(rows)


def measure_ranking(ranking: np.ndarray, accuracy: np.ndarray) -> dict[str, float]:
    """`tau`, `tau_se`, `tau_better` and `regret` of a ranking, best last."""
    n = len(accuracy)
    if n < 3:
        return dict.fromkeys(("tau", "tau_se", "tau_better", "regret"), math.nan)
    places = accuracy.round(12)  # means that are equal but for their last digit are ties
    without = np.array([find_tau(np.delete(ranking, i), np.delete(places, i)) for i in range(n)])
    better = np.argsort(-places, kind="stable")[: (n + 1) // 2]
    return {
        "tau": find_tau(ranking, places),
        "tau_se": float(np.sqrt((n - 1) * without.var())),
        "tau_better": find_tau(ranking[better], places[better]),
        "regret": float(accuracy.max() - accuracy[ranking.argmax()]),
    }


def measure_reliability(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per seed on the accuracies of candidates that were each trained k times from fresh draws. No row if k = 1.

    - `accuracy_sd`: standard deviation of the candidates' mean accuracies. `random_regret`: the highest minus their mean.
    - `tau_repeat`: Kendall's τ, and `reliability`: Pearson's r, of two trainings; means over all pairs.
    - `reliability_of_mean`: k·r / (1 + (k-1)·r), of the mean of k trainings (Spearman 1910, Brown 1910); 0 for a negative r.
    - `tau_ceiling`: 2/π · arcsin √reliability_of_mean, the τ of the true accuracies with these means, if both are normally
      distributed (Greiner 1909; Kruskal, Ordinal Measures of Association, JASA 1958).
    """
    rows = []
    for seed, trainings in cells.groupby("seed", sort=False):
        of_first = trainings[trainings["E"] == trainings["E"].iloc[0]]  # the trainings do not depend on E
        accuracies = keep_complete(of_first).pivot(index="candidate", columns="training", values="test_accuracy")
        n, k = accuracies.shape
        if k < 2:
            continue
        pairs = [(accuracies[a].to_numpy(), accuracies[b].to_numpy()) for a, b in combinations(accuracies, 2)]
        r = fmean(float(np.corrcoef(a, b)[0, 1]) if n >= 3 and np.ptp(a) and np.ptp(b) else math.nan for a, b in pairs)
        of_mean = 0.0 if r < 0 else k * r / (1 + (k - 1) * r)
        means = accuracies.mean(axis="columns")
        numbers = {"accuracy_sd": means.std(ddof=1), "random_regret": means.max() - means.mean()}
        numbers |= {"tau_repeat": fmean(find_tau(a, b) for a, b in pairs), "reliability": r, "reliability_of_mean": of_mean}
        ceiling = {"tau_ceiling": 2 / math.pi * math.asin(math.sqrt(of_mean))}
        rows.append({"trainings": k, "seed": seed, "candidates": n} | numbers | ceiling)
    return pd.DataFrame(rows)


def keep_complete(trainings: pd.DataFrame) -> pd.DataFrame:
    """The rows of candidates of which no training failed."""
    failed = trainings[trainings["status"] != "ok"]["candidate"]
    return trainings[~trainings["candidate"].isin(failed)]


def find_tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(kendalltau(a, b, method="asymptotic").statistic) if len(a) >= 3 else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="?", type=Path, default=CELLS)
    parser.add_argument("--a", type=float, default=0.1)
    parser.add_argument("--b", type=float, default=0.1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if not arguments.cells.is_file():
        parser.error(f"{arguments.cells}: no such file: run `gee study run candidates` first")
    cells = pd.read_csv(arguments.cells)
    tables = {"ranking": rank_correlations(cells, arguments.a, arguments.b), "reliability": measure_reliability(cells)}
    if arguments.json:
        print(json.dumps({name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}))
    else:
        print("\n\n".join(table.to_string(index=False, float_format="{:.3f}".format) for table in tables.values()))


if __name__ == "__main__":
    main()
