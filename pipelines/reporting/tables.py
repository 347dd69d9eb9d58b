"""The tables that the stages wrote, and those of the page: the search, the wiring that won, mistakes, and the paper."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gee_core.config import Params, Shape
from gee_core.config.genes import GENES, Gene
from gee_core.evolution.front import MEASURED_AS
from gee_core.evolution.winner import START
from gee_core.genome.genotype import configured_genotype
from gee_core.storage.json_object import read_json_model
from pipelines.figures.measurements import confusion_counts
from pipelines.figures.search import searched_rows
from pipelines.inputs.genotype_file import FrontFile, GenotypeFile
from pipelines.inputs.measured import reading
from pipelines.project.paths import FRONT

Row = dict[str, Any]
"""Of a table, for the page."""

PUBLISHED_ON = ("cifar10", "cifar100", "imagenet")

PAPER_RESULTS: tuple[Row, ...] = tuple(
    {"network": network, "n_genes": n_genes, "parameters": parameters, "plain_parameters": plain} | accuracies
    for network, n_genes, parameters, plain, accuracies in (
        # Table 2 (top-1 %, CIFAR-10 / CIFAR-100) and Table 1 (ImageNet), the rows of the paper's own method.
        ("cifarnet", 100, 3_721_754, 19_489_546, {"cifar10": 93.47, "cifar100": 72.97}),
        ("cifarnet", 200, 7_438_154, 19_489_546, {"cifar10": 95.79, "cifar100": 75.05}),
        ("vgg16", 100, 2_514_522, 9_243_722, {"cifar10": 94.47, "cifar100": 75.02}),
        ("vgg16_wide", 200, 6_887_050, 18_703_434, {"cifar10": 95.57, "cifar100": 76.94}),
        ("resnet18", 100, 3_659_418, 11_220_362, {"cifar10": 95.60, "cifar100": 77.32}),
        ("resnet18", 250, 8_723_118, 11_220_362, {"cifar10": 96.26, "cifar100": 78.91}),
        ("resnet19", 100, 4_352_154, 12_696_458, {"cifar10": 95.94, "cifar100": 77.56}),
        ("resnet19", 200, 8_414_154, 12_696_458, {"cifar10": 96.80, "cifar100": 78.86}),
        ("resnet34", 146, 10_750_000, 21_795_880, {"imagenet": 71.82}),
    )
)
"""Published numbers; ``plain_parameters``, of the same network without genes, are counted on ours. ``parameters`` are for ten
classes, except resnet34's (1000; the paper prints 10.75M), and `post` blocks: with `pre` the ResNets have 768 more, which the
paper's digits do not show."""


class Tables(NamedTuple):
    """The tables of a run; in the confusion table every cell is a string, even "NA", "1" and ""."""

    candidates: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    confusion: pd.DataFrame
    exit: pd.DataFrame
    """No rows where `evaluate.exit` is null."""
    noise: pd.DataFrame
    hardware: pd.DataFrame
    """No rows where `robustness.hardware` is null."""
    front: FrontFile | None
    """None where the search had one objective."""


def read_tables(reports: Path, models: Path) -> Tables:
    """The tables of the run whose files lie under ``reports`` and ``models``; raises ``InputError``."""
    energies = ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate")
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    with reading(path := models / "evolve" / FRONT.name):
        front = read_json_model(path, FrontFile) if path.exists() else None
    return Tables(
        candidates=_table(reports / "evolve/candidates.csv", "generation", "index", "rescored", "winner"),
        history=_table(reports / "train/history.csv", "epoch", "train_loss", "train_accuracy"),
        layers=_table(reports / "evaluate/layers.csv", "layer", "kind", *energies),
        confusion=_table(reports / "evaluate/confusion.csv", "actual", "predicted", **text),
        exit=_table(reports / "evaluate/exit.csv", "confidence", "accuracy", "mean_steps", "energy_mj"),
        noise=_table(reports / "robustness/noise.csv", "domain", "r", "seed", "accuracy"),
        hardware=_table(reports / "robustness/hardware.csv", "domain", "strength", "draw", "accuracy"),
        front=front,
    )


def _table(path: Path, *columns: str, **options: Any) -> pd.DataFrame:
    with reading(path):
        found = pd.read_csv(path, **options)
        if missing := [column for column in columns if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return found


def gene_table(params: Params, found: GenotypeFile) -> list[Row]:
    """The genes that were searched or are not neutral: ``symbol, effect, winner, neutral, range``; none of a plain network.

    Neutral is the analytic σ, 0 for genes of shape, and of others the setting. ``range`` is that of the search, None for σ's.
    """
    if not found.genes:
        return []
    neutral = params.evolve.model_dump() | params.network.model_dump()
    neutral |= replace(configured_genotype(params.with_genes(found.genes).network), shape=Shape()).as_dict()
    rows = []
    for name, value in found.genes.items():
        gene = GENES.get(name, Gene("wiring", 0, 0, f"σ_{name[6:]}: standard deviation of X_{name[6:]}"))
        unit = neutral[name] if gene.relative else 1
        symbol, _, effect = gene.about.partition(": ")
        if name in found.searched or not math.isclose(value, neutral[name]):
            row = {"symbol": symbol, "effect": effect, "winner": value, "neutral": neutral[name]}
            shown = name in found.searched and gene.group != "wiring"
            rows.append(row | {"range": (gene.low * unit, gene.high * unit) if shown else None})
    return rows


def rescored_table(candidates: pd.DataFrame) -> list[Row]:
    """One row per wiring that was scored again: ``name, start, mean, sd, draws, failed, won, best``.

    ``best`` is the winner where it is better than each other wiring by two standard errors or more.
    """
    search = searched_rows(candidates)
    groups = {name: rows["final_fitness"] for name, rows in candidates.drop(search.index).groupby("rescored", sort=False)}
    won = {name for name, F in groups.items() if candidates.loc[F.index, "winner"].any()}
    return [
        {
            "name": name,
            "start": name == START and len(search) > 1,
            "mean": F.mean(),
            "sd": F.std(),
            "draws": len(F),
            "failed": int(F.isna().sum()),
            "won": name in won,
            "best": name in won and all(is_clear(*gained(F, other)) for key, other in groups.items() if key != name),
        }
        for name, F in groups.items()
    ]


def gained(F: pd.Series, over: pd.Series) -> tuple[float, float]:
    """By how much the mean of ``F`` lies below that of ``over``, and the standard error of it; NaN where it has none.

    Both are of the same draws, in the same order.
    """
    if len(F) != len(over):
        return math.nan, math.nan
    differences = pd.Series(over.to_numpy() - F.to_numpy()).dropna()
    return differences.mean(), differences.sem()


def is_clear(difference: float, error: float) -> bool:
    """Whether a difference is at least two standard errors; never where there is no error."""
    return difference >= 2 * error


def search_gain(candidates: pd.DataFrame) -> Row | None:
    """What the search gained over its start, on the same fresh draws: ``short``, ``detail``, ``sentence``.

    None where there was no search, or its start or its winner was not scored again without a failure.
    """
    search = searched_rows(candidates)
    again = candidates.drop(search.index)
    start, winner = again[again["rescored"] == START], again[again["winner"]]
    if len(search) < 2 or start.empty or winner.empty:
        return None
    name = winner["rescored"].iloc[0]
    if name == START:
        sentence = f"The search found nothing better than its start, in {len(search):,} candidates."
        return {"short": "0", "detail": "nothing better than its start", "sentence": sentence}
    won = again.loc[again["rescored"] == name, "final_fitness"]
    difference, error = gained(won, start["final_fitness"])
    if math.isnan(difference):
        return None
    spread = "" if math.isnan(error) else f" ± {error:.2g}"
    found = "" if is_clear(difference, error) else ", which may be chance" if spread else ", on a single draw"
    sentence = f"The search gained {difference:.2g}{spread} over its start{found}."
    return {"short": f"{difference:.2g}", "detail": f"{spread} of fitness over its start{found}", "sentence": sentence}


def front_table(front: FrontFile, candidates: pd.DataFrame) -> pd.DataFrame:
    """The objectives and ``proxy_accuracy`` of the members of ``front`` and, in the last row, of the start of the search."""
    names, again = [*front.members[0].objectives, "proxy_accuracy"], candidates[candidates["rescored"] == START]
    start = (again if len(again) else candidates[:1])[[MEASURED_AS.get(name, name) for name in names]].mean()
    members = [[*member.objectives.values(), member.proxy_accuracy] for member in front.members]
    return pd.DataFrame([*members, start.tolist()], columns=names)


def confusions(confusion: pd.DataFrame, class_names: Sequence[str], most: int = 5) -> list[Row]:
    """The ``most`` frequent mistakes: ``actual, predicted, count, of`` (test images of the actual class)."""
    counts = confusion_counts(confusion, class_names)
    of, n = counts.sum(axis=1), len(counts)
    np.fill_diagonal(counts, 0)
    worst = (-counts).argsort(axis=None, kind="stable")[:most]
    return [
        {"actual": class_names[a], "predicted": class_names[p], "count": int(counts[a, p]), "of": int(of[a])}
        for a, p in (divmod(int(i), n) for i in worst)
        if counts[a, p]
    ]


def recognised(confusion: pd.DataFrame, class_names: Sequence[str]) -> list[Row]:
    """The classes with test images, the least recognised first: ``name, share`` (recognised, a fraction), ``of`` (images),
    and ``mistake``, the class that its images are most often taken for (None where all are recognised)."""
    counts = confusion_counts(confusion, class_names)
    of, right = counts.sum(axis=1), counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    wrong = [class_names[row.argmax()] if row.any() else None for row in counts]
    rows = [
        {"name": class_names[k], "share": right[k] / of[k], "of": int(of[k]), "mistake": wrong[k]}
        for k in map(int, np.flatnonzero(of))
    ]
    return sorted(rows, key=lambda row: row["share"])
