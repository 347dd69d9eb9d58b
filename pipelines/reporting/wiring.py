"""The report's tables of the search and of the wiring that won."""

import math
import re

import numpy as np
import pandas as pd

from gee_core.config import Shape
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype, analytic_genotype
from gee_core.model.network import SpikingNetwork


def searched_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of the search, without those that were scored again after it."""
    return candidates[candidates["rescored"].isin(["", np.nan])]


def start_of_search(candidates: pd.DataFrame) -> pd.DataFrame | None:
    """The first candidate, as a table of one row: where CMA-ES started. None if another search, or none, was made."""
    first = candidates.iloc[:1]
    return first if first.get("step_size", pd.Series()).notna().any() else None


def symbol(gene: str) -> str:
    """The gene's symbol: "σ_O", "ω_X"."""
    return f"σ{gene.removeprefix('sigma')}" if gene.startswith("sigma") else _docstring(gene)[0]


def wiring_table(genotype: Genotype | None, net: SpikingNetwork, n_genes: int | None) -> pd.DataFrame:
    """One row per σ of the winner: ``encoding, layer, sigma, analytic``; no row for a plain network.

    Raises:
        InputError: the genotype is another network's.
    """
    if n_genes is None or genotype is None:
        return pd.DataFrame(columns=["encoding", "layer", "sigma", "analytic"])
    chain = net.conv_chain()
    if len(genotype.sigma_X) != len(chain):
        found = f"{len(genotype.sigma_X)} σ's for {len(chain)} encodings, so it is another network's"
        raise InputError(f"models/evolve/genotype.json: {found}", "delete it and run `dvc repro`")
    names = {module: name for name, module in net.named_modules()}
    analytic = analytic_genotype([conv.out_channels for conv in chain], n_genes, math.prod(chain[1].kernel_size))
    return pd.DataFrame(
        {
            "encoding": ["O", *(f"X{i}" for i in range(len(chain)))],
            "layer": ["gene interactions, all layers", *(names[conv] for conv in chain)],
            "sigma": [genotype.sigma_O, *genotype.sigma_X],
            "analytic": [analytic.sigma_O, *analytic.sigma_X],
        }
    )


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
            "effect": _docstring(gene)[1],
            "searched": gene in searched,
            "winner": getattr(winner, gene),
            "start": np.nan if start is None else start[gene].item(),
            "neutral": field.default,
        }
        for gene, field in Shape.model_fields.items()
    ]
    table = pd.DataFrame(rows)
    return table[table["searched"] | (table["winner"] != table["neutral"])]


def rescored_table(candidates: pd.DataFrame) -> list[dict]:
    """One row per wiring that was scored again: ``name, own, mean, sd, draws, failed, won``.

    ``own`` is its F in the search, at the same λ; NaN for the mean of CMA-ES's distribution, which was not a candidate.
    """
    search = searched_rows(candidates)
    own = {f"{row['generation']}-{row['index']}": row["final_fitness"] for row in search.to_dict("records")}
    return [
        {
            "name": name,
            "own": own.get(name, np.nan),
            "mean": rows["final_fitness"].mean(),
            "sd": rows["final_fitness"].std(),
            "draws": len(rows),
            "failed": int(rows["final_fitness"].isna().sum()),
            "won": bool(rows["winner"].any()),
        }
        for name, rows in candidates.drop(search.index).groupby("rescored", sort=False)
    ]


def _docstring(gene: str) -> tuple[str, str]:
    """Symbol and first clause of a gene's docstring, "symbol: what it does; more"."""
    name, _, effect = " ".join((Shape.model_fields[gene].description or "").split()).partition(": ")
    return name, re.split(r"[;.](?: |$)", effect)[0]
