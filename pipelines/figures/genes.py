"""The figures of the genes of a search and of its winner, each drawn by a function of a table that returns SVG text."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gee_core.config import Params, Shape
from gee_core.config.shape import SEARCH_RANGES
from pipelines.figures.candidates import (
    MANY,
    components,
    draw_dots,
    fitness_over_generations,
    searched_rows,
    start_of_search,
)
from pipelines.figures.svg import GENETIC, INK, MARK, MUTED, RAMP, headline, log_axis, panel, svg

FEW = 10
"""As many genes have a line each; more have a row of squares each."""


def evolve_figures(candidates: pd.DataFrame, params: Params) -> dict[str, str]:
    """The figures of a search as SVG text by name: `fitness`, `components`, `candidates`, and `search_state` of CMA-ES.

    Args:
        candidates: the rows of candidates.csv. There is no figure where one wiring, or none, was scored.
        params: those of the search.
    """
    if len(searched_rows(candidates)) < 2:
        return {}
    genes, is_shape = params.searched_genes(), params.evolve.genotype == "shape"
    svgs = {
        "fitness": fitness_over_generations(candidates),
        "components": components(candidates),
        "candidates": fitness_over_genes(candidates, genes) if is_shape else candidates_plane(candidates),
    }
    if start_of_search(candidates) is not None:
        svgs["search_state"] = search_state(candidates, genes)
    return svgs


def symbol(gene: str) -> str:
    """The gene's symbol: "σ_O", "ω_X"."""
    return f"σ{gene.removeprefix('sigma')}" if gene.startswith("sigma") else gene_docstring(gene)[0]


def gene_docstring(gene: str) -> tuple[str, str]:
    """Symbol and first clause of a gene's docstring, "symbol: what it does; more"."""
    name, _, effect = " ".join((Shape.model_fields[gene].description or "").split()).partition(": ")
    return name, re.split(r"[;.](?: |$)", effect)[0]


@svg
def candidates_plane(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """The candidates in the plane of σ_X (geometric mean of σ_0 … σ_L) and σ_O, coloured by proxy accuracy; Fig. 4."""
    figure, ax = panel(3.4)
    sigma_X, sigma_O = gene_values(candidates, "sigma_X"), candidates["sigma_O"]
    accuracy = 100 * searched_rows(candidates)["proxy_accuracy"]
    failed = accuracy.index[accuracy.isna()]
    if len(failed):
        ax.plot(sigma_X[failed], sigma_O[failed], "x", color=MUTED, ms=6, label="failed", rasterized=len(failed) > MANY)
    ok = accuracy.sort_values(na_position="first").index[len(failed) :]  # the best drawn last, on top
    if len(ok):
        look = {"s": 8, "lw": 0, "rasterized": True} if len(ok) > MANY else {"s": 46, "lw": 0.6, "edgecolors": INK}
        dots = ax.scatter(sigma_X[ok], sigma_O[ok], c=accuracy[ok], cmap=RAMP, **look)
        figure.colorbar(dots, ax=ax, label="proxy accuracy (%)", pad=0.02, aspect=28).outline.set_visible(False)
        best = candidates["winner"]
        ax.plot(sigma_X[best], sigma_O[best], "o", mfc="none", mec=MARK, mew=2, ms=12, label="winner")
    log_axis(ax, "x", sigma_X)
    log_axis(ax, "y", sigma_O)
    ax.set(xlabel="σ_X, geometric mean of σ_0 … σ_L (log)", ylabel="σ_O (log)")
    headline(figure, ax, "Which wiring learns fastest")
    return figure, f"{len(accuracy)} candidates in the plane of two standard deviations, coloured by proxy accuracy."


@svg
def fitness_over_genes(candidates: pd.DataFrame, genes: Sequence[str]) -> tuple[Figure, str]:
    """Final fitness of the candidates over every searched gene, a panel each; lines mark the start's and the winner's value.

    It is drawn relative to the median of the generation, since each generation has a seed of its own, which moves all its F.
    """
    search, start, best = searched_rows(candidates), start_of_search(candidates), candidates[candidates["winner"]]
    F = search["final_fitness"].fillna(search["fitness"])
    F -= F.groupby(search["generation"]).transform("median")
    n_columns = 4 if len(genes) <= 8 else 5
    n_rows = math.ceil(len(genes) / n_columns)
    figure = Figure(figsize=(9.6, 0.5 + 1.85 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for ax, gene in zip(axes.flat, genes, strict=False):
        x = gene_values(search, gene)
        draw_dots(ax, x, F)
        if start is not None:
            ax.axvline(gene_values(start, gene).item(), color=MUTED, lw=1.4, ls=(0, (4, 3)), label="start")
        for value in gene_values(best, gene):
            ax.axvline(value, color=MARK, lw=1.6, label="winner")
        _gene_axis(ax, gene, pd.concat([x, gene_values(best, gene)]))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(symbol("sigma_X" if gene == "sigma" else gene))
    for ax in axes.flat[len(genes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("F - median")
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=5)
    return figure, f"Fitness of {len(search)} candidates, less the median of their generation, over each of {len(genes)} genes."


def gene_values(rows: pd.DataFrame, gene: str) -> pd.Series:
    """The values of a searched gene; of a σ that all X_l share or are multiplied by, the geometric mean of σ_0 … σ_L."""
    if gene in ("sigma", "sigma_X"):
        return np.exp(np.log(rows.filter(regex=r"^sigma_\d+$")).mean(axis=1))
    return rows[gene]


def _is_log(gene: str) -> bool:
    return gene.startswith(("sigma", "gamma"))


def _gene_axis(ax: Axes, gene: str, values: pd.Series) -> None:
    """The range in which a gene is searched, and ``values`` where they lie outside it."""
    seen = pd.Series([*SEARCH_RANGES.get(gene, ()), *values])
    if _is_log(gene):
        log_axis(ax, "x", seen)
    else:
        pad = 0.05 * (seen.max() - seen.min())
        ax.set_xlim(seen.min() - pad, seen.max() + pad)
    if not _is_log(gene) or seen.max() < 3 * seen.min():
        ax.xaxis.set_major_locator(MaxNLocator(3))


@svg
def wiring_against_analytic(wiring: pd.DataFrame) -> tuple[Figure, str]:
    """The winner's σ's as multiples of the analytic ones: columns ``encoding``, ``sigma``, ``analytic``."""
    figure, ax = panel(3.4)
    factor = (wiring["sigma"] / wiring["analytic"]).to_numpy()
    x = np.arange(len(wiring))
    ax.axhline(1, color=INK, lw=1)
    ax.vlines(x, 1, factor, color=GENETIC, lw=2.2)
    ax.plot(x, factor, "o", color=GENETIC, ms=6)
    log_axis(ax, "y", pd.Series([1.0, *factor]))
    step = 1 + len(wiring) // 24
    ax.set_xticks(x[::step], wiring["encoding"].iloc[::step], fontsize=7)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel="σ / analytic σ (log)", title="The wiring against the analytic one")
    return figure, "Every standard deviation of the winner divided by the analytic one."


@svg
def genes_in_their_ranges(genes: pd.DataFrame) -> tuple[Figure, str]:
    """Every searched gene of shape on the range of its search, logarithmic for γ: winner, start and the neutral value.

    Args:
        genes: columns ``gene, symbol, winner, start, neutral``; ``start`` may be NaN.
    """
    figure, ax = panel(1.3 + 0.32 * len(genes))
    points = [("neutral", "|", MUTED, 11), ("start", "o", MUTED, 8), ("winner", "o", MARK, 8)]
    points = [point for point in points if genes[point[0]].notna().all()]
    for y, row in enumerate(genes.to_dict("records")):
        low, high = SEARCH_RANGES[row["gene"]]
        scale = np.log if _is_log(row["gene"]) else np.asarray
        values = pd.Series([low, high, row["winner"], row["start"]]).agg(["min", "max"])
        left, right = scale(values)
        ax.plot([0, 1], [y, y], color="#cdd5dd", lw=2.5, solid_capstyle="round", zorder=1)
        for x, limit, side in [(-0.03, values["min"], "right"), (1.03, values["max"], "left")]:
            ax.text(x, y, f"{limit:g}", ha=side, va="center", fontsize=8, color=MUTED)
        for name, marker, colour, size in points:
            x = (scale(row[name]) - left) / (right - left)
            face = "white" if name == "start" else colour
            ax.plot(x, y, marker, mfc=face, mec=colour, mew=1.8, ms=size, ls="", label=name if y == 0 else None)
        ax.text(1.3, y, f"{round(row['winner'], 3):g}", ha="right", va="center", fontsize=9, color=MARK, weight="bold")
    ax.set_yticks(range(len(genes)), genes["symbol"])
    ax.set(xlim=(-0.15, 1.32), ylim=(len(genes) - 0.4, -0.6), xticks=[])
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    headline(figure, ax, "The winner’s genes of shape")
    return figure, f"{len(genes)} genes of the winner on the ranges in which they were searched."


@svg
def search_state(candidates: pd.DataFrame, genes: Sequence[str]) -> tuple[Figure, str]:
    """CMA-ES's distribution by generation: step size, axis ratio, and the genes' standard deviations and means."""
    state = searched_rows(candidates).groupby("generation").first()
    names = [symbol(gene) for gene in genes]
    spread, means = (state[[f"{what}_{gene}" for gene in genes]].set_axis(names, axis=1) for what in ("std", "mean"))
    means -= means.iloc[0]
    few = len(genes) <= FEW
    titles = {"step_size": "Step size (log)", "axis_ratio": "Axis ratio (log)"}
    titles |= {"std": "Standard deviations (log)", "mean": "Means, from the start"}
    figure = Figure(figsize=(9.6, 3.3 if few else 1.4 + 0.15 * min(len(genes), 60)), layout="constrained")
    axes = figure.subplot_mosaic([list(titles)] if few else [["step_size", "std", "mean"], ["axis_ratio", "std", "mean"]])
    for column in ("step_size", "axis_ratio"):
        axes[column].plot(state[column], color=GENETIC, marker="o", ms=4)
        log_axis(axes[column], "y", state[column])
    if few:
        for what, values in (("std", spread), ("mean", means)):
            for place, name in enumerate(names):
                axes[what].plot(values[name], color=f"C{place}", lw=1.5, marker="o", ms=3.5, label=name)
        log_axis(axes["std"], "y", spread.stack())
        figure.legend(*axes["mean"].get_legend_handles_labels(), loc="outside lower left", ncols=FEW)
    else:
        _rows(axes["std"], spread, RAMP, LogNorm())
        _rows(axes["mean"], means, colormaps["RdBu_r"], CenteredNorm())
    for name, ax in axes.items():
        ax.set_title(titles[name])
        ax.set_xlabel("generation")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure, f"Step size, axis ratio, standard deviations and means of {len(genes)} genes over {len(state)} generations."


def _rows(ax: Axes, values: pd.DataFrame, colours: Colormap, norm: Normalize) -> None:
    """A row of squares per gene, a column per generation, and the scale of their colours."""
    n, first, last = values.shape[1], values.index.min(), values.index.max()
    image = ax.imshow(
        values.T, cmap=colours, norm=norm, aspect="auto", interpolation="none", extent=(first - 0.5, last + 0.5, n, 0)
    )
    shown = np.arange(0, n, 1 + (n - 1) // 60)
    ax.set_yticks(shown + 0.5, values.columns[shown], fontsize=7)
    ax.grid(visible=False)
    look: dict[str, Any] = {"location": "bottom", "aspect": 30, "shrink": 0.9, "pad": 0.02}
    bar = ax.figure.colorbar(image, ax=ax, ticks=MaxNLocator(4), format=FuncFormatter(lambda value, _: f"{value:.3g}"), **look)
    bar.minorticks_off()
    bar.outline.set_visible(False)
