"""The tables of the report page: of the search, of the wiring that won, and of mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gee_core.config import Shape
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype
from pipelines.figures.candidates import searched_rows, start_scored_again
from pipelines.figures.genes import gene_docstring, symbol
from pipelines.figures.measurements import confusion_counts

Row = dict[str, Any]
"""Of a table, for the page."""


def wiring_table(genotype: Genotype | None, analytic: Genotype | None, layers: pd.DataFrame) -> pd.DataFrame:
    """One row per σ of the winner: ``encoding, layer, sigma, analytic``; no row for a plain network.

    Args:
        genotype: the winner's.
        analytic: the network's σ's of He's variance.
        layers: the rows of layers.csv.

    Raises:
        InputError: the genotype or the table is another network's.
    """
    if analytic is None or genotype is None:
        return pd.DataFrame(columns=["encoding", "layer", "sigma", "analytic"])
    n, names = len(analytic.sigma_X), encoded_layers(layers)
    for file, found in (("models/evolve/genotype.json", len(genotype.sigma_X)), ("reports/evaluate/layers.csv", len(names))):
        if found != n:
            problem = f"{file}: of {found} encodings, and the network has {n}, so it is another network's"
            raise InputError(problem, "delete it and run `dvc repro`")
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


def shape_table(winner: Shape, start: pd.DataFrame | None, searched: tuple[str, ...]) -> pd.DataFrame:
    """The genes of shape that were searched or are not neutral: ``gene, symbol, effect, searched, winner, start, neutral``.

    Args:
        winner: the genes of the wiring that won.
        start: the row of candidates.csv at which the search started, if any.
        searched: the names of the searched genes.
    """
    rows = [
        {
            "gene": gene,
            "symbol": symbol(gene),
            "effect": gene_docstring(gene)[1],
            "searched": gene in searched,
            "winner": getattr(winner, gene),
            "start": np.nan if start is None else start[gene].item(),
            "neutral": field.default,
        }
        for gene, field in Shape.model_fields.items()
    ]
    table = pd.DataFrame(rows)
    return table[table["searched"] | (table["winner"] != table["neutral"])]


def rescored_table(candidates: pd.DataFrame) -> list[Row]:
    """One row per wiring that was scored again: ``name, start, own, mean, sd, draws, failed, won``.

    ``own`` is its F in the search, at the same λ; NaN for the mean of CMA-ES's distribution and the start of a random search,
    which were no candidates.
    """
    search, start = searched_rows(candidates), start_scored_again(candidates)
    own = {f"{row['generation']}-{row['index']}": row["final_fitness"] for row in search.to_dict("records")}
    return [
        {
            "name": name,
            "start": name == start,
            "own": own.get(name, np.nan),
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
    counts[range(n), range(n)] = 0
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
    wrong = counts.argmax(axis=1)
    rows = [
        {
            "name": class_names[k],
            "share": right[k] / of[k],
            "of": int(of[k]),
            "mistake": class_names[wrong[k]] if counts[k, wrong[k]] else None,
        }
        for k in range(len(counts))
        if of[k]
    ]
    return sorted(rows, key=lambda row: row["share"])
