"""The figures of the candidates by generation, each drawn by a function of candidates.csv that returns SVG text."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gee_core.evolution.winner import rescored_start
from pipelines.figures.svg import GENETIC, MARK, MUTED, headline, svg

MANY = 1500
"""More dots than this are drawn as one bitmap inside the SVG, to keep the page small."""


def searched_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of the search, without those that were scored again after it."""
    return candidates[candidates["rescored"].isin(["", np.nan])]


def start_of_search(candidates: pd.DataFrame) -> pd.DataFrame | None:
    """The first candidate, as a table of one row: where CMA-ES started. None if another search, or none, was made."""
    first = candidates.iloc[:1]
    return first if first.get("step_size", pd.Series()).notna().any() else None


def start_scored_again(candidates: pd.DataFrame) -> str | None:
    """The `rescored` of the rows in which the start of the search was scored again; None if it was not."""
    return rescored_start(set(candidates["rescored"]), searched=len(searched_rows(candidates)) > 1)


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
def components(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """Loss, temporal difference and spatial entropy of every candidate by generation."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    search, best = searched_rows(candidates), candidates["winner"]
    titles = ["L_ce, loss", "R_T, dynamics", "R_S, entropy"]
    for ax, name, title in zip(axes, ["L_ce", "R_T", "R_S"], titles, strict=True):
        values = candidates[name]
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


def _spread(candidates: pd.DataFrame) -> pd.Series:
    """Generation plus a small offset by index, so that equal values do not overlap."""
    last = candidates.groupby("generation")["index"].transform("max").clip(lower=1)
    offset = candidates["index"] / last - 0.5
    return candidates["generation"] + 0.4 * offset.where(last > 1, 0.0)


def _dots_by_generation(ax: Axes, search: pd.DataFrame, values: pd.Series) -> float:
    """Draw ``values`` by generation; returns the limit above which a dot is drawn at the upper edge."""
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    ax.set_xlim(-0.5, search["generation"].max() + 0.5)
    return draw_dots(ax, _spread(search), values)


def draw_dots(ax: Axes, x: pd.Series, values: pd.Series) -> float:
    """Draw ``values`` over ``x``, NaN as a failure; returns the limit above which a dot is drawn at the upper edge."""
    ok, top = values.dropna(), np.inf
    if len(ok):
        low, high = ok.quantile([0.05, 0.75])
        top = max(high + 2 * (high - low), ok.min())
    many = len(values) > MANY
    inside, outside = ok[ok <= top], ok[ok > top]
    alpha, size = (0.2, 2.5) if many else (0.45, 5.0)
    ax.plot(x[inside.index], inside, "o", color=GENETIC, mew=0, label="candidate", rasterized=many, alpha=alpha, ms=size)
    if len(outside):
        rim = np.full(len(outside), top)
        ax.plot(x[outside.index], rim, "^", color=GENETIC, alpha=0.6, mew=0, ms=6, label="far above", rasterized=many)
    failed = values.index[values.isna()]
    if len(failed):
        rim, upper = np.full(len(failed), 0.98), ax.get_xaxis_transform()
        ax.plot(x[failed], rim, "x", color=MUTED, ms=6, label="failed", transform=upper, rasterized=many)
    return top
