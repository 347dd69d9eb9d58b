"""The tables that the stages wrote, and those of the page: the search, the wiring that won, mistakes, and the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gee_core.config import Params
from gee_core.config.genes import GENES
from gee_core.errors import InputError
from gee_core.evolution.winner import rescored_start
from gee_core.genome.genotype import Genotype
from pipelines.figures.measurements import confusion_counts
from pipelines.figures.search import searched_rows
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.measured import reading

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
    noise: pd.DataFrame
    hardware: pd.DataFrame
    """No rows where `robustness.hardware` is null."""


def read_tables(reports: Path) -> Tables:
    """The tables of the run whose files lie under ``reports``; raises ``InputError``."""
    energies = ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate")
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    return Tables(
        candidates=_table(reports / "evolve/candidates.csv", "generation", "index", "rescored", "winner"),
        history=_table(reports / "train/history.csv", "epoch", "train_loss", "train_accuracy"),
        layers=_table(reports / "evaluate/layers.csv", "layer", "kind", *energies),
        confusion=_table(reports / "evaluate/confusion.csv", "actual", "predicted", **text),
        noise=_table(reports / "robustness/noise.csv", "r", "seed", "accuracy"),
        hardware=_table(reports / "robustness/hardware.csv", "domain", "strength", "draw", "accuracy"),
    )


def _table(path: Path, *columns: str, **options: Any) -> pd.DataFrame:
    with reading(path):
        found = pd.read_csv(path, **options)
        if missing := [column for column in columns if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return found


def wiring_table(genotype: Genotype | None, analytic: Genotype | None, layers: pd.DataFrame) -> pd.DataFrame:
    """One row per σ of the winner: ``encoding, layer, sigma, analytic``; no row for a plain network.

    Raises:
        InputError: the genotype or ``layers``, the rows of layers.csv, are of another network than ``analytic``.
    """
    if analytic is None or genotype is None:
        return pd.DataFrame(columns=["encoding", "layer", "sigma", "analytic"])
    n, names = len(analytic.sigma_X), encoded_layers(layers)
    if not n == len(genotype.sigma_X) == len(names):
        found = f"of {len(genotype.sigma_X)} encodings, reports/evaluate/layers.csv of {len(names)}, params.yaml of {n}"
        raise InputError(f"models/evolve/genotype.json: {found}: not one network", "run `dvc repro`")
    return pd.DataFrame(
        {
            "encoding": ["O", *(f"X{i}" for i in range(n))],
            "layer": ["gene interactions, all layers", *names],
            "sigma": [genotype.sigma_O, *genotype.sigma_X],
            "analytic": [analytic.sigma_O, *analytic.sigma_X],
        }
    )


def encoded_layers(layers: pd.DataFrame) -> list[str]:
    """The convolutions whose neurons have encodings: those that are built of genes, and the one before the first of these."""
    convs = layers[layers["kind"] == "conv"]
    built = convs["decode_macs"].fillna(0) > 0
    return [*convs["layer"][~built.cummax()].tail(1), *convs["layer"][built]]


def gene_table(params: Params, found: GenotypeFile) -> list[Row]:
    """The genes besides σ's that were searched or are not neutral: ``symbol, effect, winner, neutral``, and the ``range`` of
    the search (None: not searched). Neutral is the value of the setting where a gene has no other."""
    settings = params.evolve.model_dump() | params.network.model_dump()
    rows = []
    for name, gene in GENES.items():
        if name in found.genes and gene.group != "wiring":
            symbol, _, effect = gene.about.partition(": ")
            neutral = settings[name] if gene.neutral is None else gene.neutral
            unit = neutral if gene.relative else 1
            limits = (gene.low * unit, gene.high * unit) if name in found.searched else None
            about = {"symbol": symbol, "effect": effect, "winner": found.genes[name]}
            rows.append(about | {"neutral": neutral, "range": limits})
    return [row for row in rows if row["range"] or row["winner"] != row["neutral"]]


def rescored_table(candidates: pd.DataFrame) -> list[Row]:
    """One row per wiring that was scored again: ``name, start, mean, sd, draws, failed, won``."""
    search = searched_rows(candidates)
    start = rescored_start(set(candidates["rescored"]), searched=len(search) > 1)
    return [
        {
            "name": name,
            "start": name == start,
            "mean": rows["final_fitness"].mean(),
            "sd": rows["final_fitness"].std(),
            "draws": len(rows),
            "failed": int(rows["final_fitness"].isna().sum()),
            "won": bool(rows["winner"].any()),
        }
        for name, rows in candidates.drop(search.index).groupby("rescored", sort=False)
    ]


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
