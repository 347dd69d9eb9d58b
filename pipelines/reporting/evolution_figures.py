"""The report's figures of the evolution and of the wiring that won, each drawn by a function of a table as SVG text."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gee_core.config import EvolveConfig, Params
from gee_core.config.searched import SEARCH_RANGES
from pipelines.reporting.search_state import search_state
from pipelines.reporting.svg import GENETIC, INK, MARK, MUTED, RAMP, headline, log_axis, panel, svg
from pipelines.reporting.wiring import searched_rows, start_of_search, start_scored_again, symbol

MANY = 1500
"""More dots than this are drawn as one bitmap inside the SVG, to keep the page small."""


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
        "components": components(candidates, params.evolve),
        "candidates": fitness_over_genes(candidates, genes) if is_shape else candidates_plane(candidates),
    }
    if start_of_search(candidates) is not None:
        svgs["search_state"] = search_state(candidates, genes)
    return svgs


@svg
def fitness_over_generations(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """Final fitness of all candidates as dots; best and median of each generation as lines; beside them what was scored again.

    Candidates that halving eliminated are dots, at the fitness of their last epoch, and do not count for the lines.
    """
    search = searched_rows(candidates)
    again = candidates.drop(search.index)
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    widths = [3, 1] if len(again) else [1]
    ax, *beside = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    final = search["final_fitness"]
    top = _dots_by_generation(ax, search, final.fillna(search["fitness"]))
    groups = final.groupby(search["generation"])
    ax.plot(groups.median().clip(upper=top), color=MUTED, lw=1.4, ls=(0, (4, 3)), marker=".", label="median")
    ax.plot(groups.min().clip(upper=top), color=MARK, marker="o", ms=5, label="best of its generation")
    ax.set(xlabel="generation", ylabel="fitness F (lower is better)")
    for side in beside:
        _scored_again(side, again, top)
    best = groups.min().dropna()
    title = "No candidate succeeded" if best.empty else f"Best fitness {best.min():.3f}"
    fresh = again["final_fitness"].groupby(again["rescored"]).agg(lambda draws: draws.mean(skipna=False))
    start = start_scored_again(candidates)
    if start and again["winner"].any() and np.isfinite(fresh[start]):
        won = again["rescored"][again["winner"]].item()
        title = "The start won" if won == start else f"On fresh draws {fresh[won]:.3f}, the start {fresh[start]:.3f}"
    headline(figure, ax, title)
    return figure, f"Fitness of {len(search)} candidates by generation. {title}."


def _scored_again(ax: Axes, again: pd.DataFrame, top: float) -> None:
    """Every draw of what was scored again as a dot, mean ± standard deviation as a bar; the winner highlighted."""
    groups = again.groupby("rescored", sort=False)
    for x, (_, rows) in enumerate(groups):
        F, colour = rows["final_fitness"], MARK if rows["winner"].any() else GENETIC
        ax.plot(np.full(len(F), x), F.where(top >= F), "o", color=colour, alpha=0.45, ms=4, mew=0)
        ax.plot(np.full(len(F), x), F.where(top < F).clip(upper=top), "^", color=colour, alpha=0.45, ms=4, mew=0)
        ax.errorbar(x, F.mean(), F.std() if F.count() > 1 else 0.0, fmt="_", color=colour, ms=11, mew=2, lw=1.4)
    ax.set_xticks(range(len(groups)), groups.groups, fontsize=8, rotation=90 if len(groups) > 4 else 0)
    ax.set(xlim=(-0.6, len(groups) - 0.4), xlabel="scored again")
    ax.grid(axis="x", visible=False)


@svg
def components(candidates: pd.DataFrame, cfg: EvolveConfig) -> tuple[Figure, str]:
    """Loss, temporal difference and spatial entropy of every candidate by generation, as the fitness of `cfg` takes them."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    search, best = searched_rows(candidates), candidates["winner"]
    loss = "TSE" if cfg.fitness == "tse" else "L_ce"
    relative = cfg.temporal == "relative"
    R_T, var_o = candidates["R_T"], candidates["var_o"]
    if relative:
        R_T = (R_T / var_o.where(var_o > 0)).mask(var_o <= 0, 0.0)  # as in the fitness
    titles = [f"{loss}, loss", "R_T / variance" if relative else "R_T, dynamics", "R_S, entropy"]
    for ax, values, title in zip(axes, [candidates[loss], R_T, candidates["R_S"]], titles, strict=True):
        top = _dots_by_generation(ax, search, values[search.index])
        for value in values[best]:
            ax.axhline(min(value, top), color=MARK, lw=1.6, label="winner")
        ax.set(xlabel="generation", title=title)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.tick_params(axis="y", labelsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4)
    return figure, "Loss, temporal difference and spatial entropy of every candidate by generation."


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
        _dots(ax, x, F)
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


def _spread(candidates: pd.DataFrame) -> pd.Series:
    """Generation plus a small offset by index, so that equal values do not overlap."""
    last = candidates.groupby("generation")["index"].transform("max").clip(lower=1)
    offset = candidates["index"] / last - 0.5
    return candidates["generation"] + 0.4 * offset.where(last > 1, 0.0)


def _dots_by_generation(ax: Axes, search: pd.DataFrame, values: pd.Series) -> float:
    """Draw ``values`` by generation; returns the limit above which a dot is drawn at the upper edge."""
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    ax.set_xlim(-0.5, search["generation"].max() + 0.5)
    return _dots(ax, _spread(search), values)


def _dots(ax: Axes, x: pd.Series, values: pd.Series) -> float:
    """Draw ``values`` over ``x``, NaN as a failure; returns the limit above which a dot is drawn at the upper edge."""
    ok, top = values.dropna(), np.inf
    if len(ok):
        low, high = ok.quantile([0.05, 0.75])
        top = max(high + 2 * (high - low), ok.min())
    many = len(values) > MANY
    inside, outside = ok[ok <= top], ok[ok > top]
    dot = {"alpha": 0.2, "ms": 2.5} if many else {"alpha": 0.45, "ms": 5}
    ax.plot(x[inside.index], inside, "o", color=GENETIC, mew=0, label="candidate", rasterized=many, **dot)
    if len(outside):
        rim = np.full(len(outside), top)
        ax.plot(x[outside.index], rim, "^", color=GENETIC, alpha=0.6, mew=0, ms=6, label="far above", rasterized=many)
    failed = values.index[values.isna()]
    if len(failed):
        rim = {"transform": ax.get_xaxis_transform(), "rasterized": many}
        ax.plot(x[failed], np.full(len(failed), 0.98), "x", color=MUTED, ms=6, label="failed", **rim)
    return top
