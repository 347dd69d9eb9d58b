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
    """One row per wiring that was scored again: ``name, start, mean, sd, draws, failed, won``; ``gain``, how much the winner's
    mean is less on the same draws, its standard ``error``, each or NaN, and ``certain``: whether it is two of these or more."""
    search = searched_rows(candidates)
    again = candidates.drop(search.index)
    if again.empty:
        return []
    won = again.loc[again["rescored"].isin(again.loc[again["winner"], "rescored"]), "final_fitness"].to_numpy()
    rows = []
    for name, group in again.groupby("rescored", sort=False):
        F = group["final_fitness"]
        below = pd.Series(F.to_numpy() - won if len(won) == len(F) else np.nan).dropna()
        row = {"name": name, "start": name == START and len(search) > 1, "won": bool(group["winner"].any())}
        row |= {"mean": F.mean(), "sd": F.std(), "draws": len(F), "failed": int(F.isna().sum())}
        rows.append(row | {"gain": (gain := below.mean()), "error": (error := below.sem()), "certain": gain >= 2 * error})
    return rows


def front_table(front: FrontFile, candidates: pd.DataFrame) -> pd.DataFrame:
    """The objectives and ``proxy_accuracy`` of the members of ``front`` and, in the last row, of the start of the search."""
    names, again = [*front.members[0].objectives, "proxy_accuracy"], candidates[candidates["rescored"] == START]
    start = (again if len(again) else candidates[:1])[[MEASURED_AS.get(name, name) for name in names]].mean()
    members = [[*member.objectives.values(), member.proxy_accuracy] for member in front.members]
    return pd.DataFrame([*members, start.tolist()], columns=names)


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
