"""The figures of a search and of its winner's genes, each drawn by a function that returns SVG text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.figures.svg import GENETIC, INK, MARK, MUTED, OTHER, SIGNED, headline, label, panel, svg

COLUMNS = {"fitness": "final_fitness", "sigma_X": "sigma_0"}
"""The column of candidates.csv with a value, where it has another name. σ_X is the value of every σ_l."""


def searched_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of the search, without the wirings that were scored again after it."""
    return candidates[candidates["rescored"].isin(["", np.nan])]


def fresh_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The fresh draws among ``candidates``."""
    return candidates.drop(searched_rows(candidates).index)


def gene_correlations(candidates: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    """Spearman's ρ of each gene with the fitness, and its standard error: ``gene, rho, se, n``.

    ``n`` counts the candidates of the search that have a fitness. Fewer than six give no rows. A gene that never varied is
    left out. The gene with the greatest |ρ| is first.

    The standard error is (1 - ρ²)·√((1 + ρ²/2) / (n - 3)). Source: Bonett, Wright, Sample Size Requirements for Estimating
    Pearson, Kendall and Spearman Correlations, 2000: the variance of artanh ρ, here times (dρ / d artanh ρ)².
    """
    at = {name: COLUMNS.get(name, name) for name in (*genes, "fitness")}
    measured = searched_rows(candidates).reindex(columns=list(at.values())).set_axis(list(at), axis=1).dropna()
    if (n := len(measured)) < 6:  # too few for the approximation
        return pd.DataFrame(columns=["gene", "rho", "se", "n"])
    rho = measured.rank().corr().loc[list(genes), "fitness"].rename("rho").rename_axis("gene")
    table = rho.reset_index().dropna().assign(n=n)
    table["se"] = (1 - table["rho"] ** 2) * np.sqrt((1 + table["rho"] ** 2 / 2) / (n - 3))
    return table.iloc[np.argsort(-table["rho"].abs(), kind="stable")]


def idle_genes(correlations: pd.DataFrame) -> list[str]:
    """The genes whose |ρ| is below two standard errors."""
    return [*correlations.loc[correlations["rho"].abs() < 2 * correlations["se"], "gene"]]


@svg
def gene_effects(correlations: pd.DataFrame) -> tuple[Figure, str]:
    """The `gene_correlations` as bars, ± 1 standard error."""
    genes = correlations["gene"]
    figure, ax = panel(1.2 + 0.28 * len(genes))
    error = {"ecolor": INK, "lw": 1}
    ax.barh(range(len(genes)), correlations["rho"], 0.75, xerr=correlations["se"], color=GENETIC, error_kw=error)
    ax.set_yticks(range(len(genes)), [label(gene) for gene in genes])
    ax.set(xlim=(-1.1, 1.1), xlabel="rank correlation ρ with the fitness, ± 1 standard error")
    ax.set_ylim(len(genes) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    title = f"{len(genes) - len(idle_genes(correlations))} of {len(genes)} genes mattered"
    headline(figure, ax, title)
    return figure, f"Rank correlation of {len(genes)} genes with the fitness. {title}."


@svg
def fitness_over_generations(candidates: pd.DataFrame, title: str) -> tuple[Figure, str]:
    """Fitness of all candidates as dots, best and median of each generation as lines, and on the right fitness scored again.

    ``title`` names the winner's. Candidates outside of the budget are dots, and do not count for the lines.
    """
    search = searched_rows(candidates)
    again = fresh_rows(candidates)
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    widths = [3, 1] if len(again) else [1]
    ax, *right = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    final = search["final_fitness"]
    top = _draw_dots(ax, search, final.fillna(search["fitness"]))
    by_generation = final.groupby(search["generation"])
    ax.plot(by_generation.median().clip(upper=top), color=MUTED, lw=1.4, ls=(0, (4, 3)), marker=".", label="median")
    ax.plot(by_generation.min().clip(upper=top), color=MARK, marker="o", ms=5, label="lowest of its generation")
    ax.set(xlabel="generation", ylabel="fitness F (lower is better)")
    groups = again.groupby("rescored", sort=False)
    for side in right:  # every draw of the wirings scored again as a dot, mean ± standard deviation as a bar
        for x, (_, rows) in enumerate(groups):
            F = rows["final_fitness"]
            side.plot(np.full(len(F), x), F.clip(upper=top), "o", color=GENETIC, alpha=0.75, ms=4, mew=0)
            side.errorbar(x, F.mean(), F.std() if F.count() > 1 else 0.0, fmt="_", color=GENETIC, ms=11, mew=2, lw=1.4)
        won = set(candidates.loc[candidates["winner"], "rescored"])
        names = [f"{name}, trained" if name in won else name for name, _ in groups]
        side.set_xticks(range(len(groups)), names, fontsize=8, rotation=90)
        side.set(xlim=(-0.6, len(groups) - 0.4), xlabel="scored again")
        side.grid(axis="x", visible=False)
    headline(figure, ax, title)
    return figure, f"Fitness of {len(search)} candidates by generation. {title}."


def _draw_dots(ax: Axes, search: pd.DataFrame, values: pd.Series) -> float:
    """Draw ``values`` by generation, NaN as a failure. Returns the limit above which a dot is drawn at the upper edge."""
    last = search.groupby("generation")["index"].transform("max").clip(lower=1)
    x = search["generation"] + 0.4 * (search["index"] / last - 0.5).where(last > 1, 0.0)  # equal values do not overlap
    ok, top = values.dropna(), np.inf
    if len(ok):
        low, high = ok.quantile([0.05, 0.75])
        top = max(high + 2 * (high - low), ok.min())
    inside, outside = ok[ok <= top], ok[ok > top]
    ax.plot(x[inside.index], inside, "o", color=GENETIC, mew=0, label="candidate", alpha=0.75, ms=5)
    if len(outside):
        rim = np.full(len(outside), top)
        ax.plot(x[outside.index], rim, "^", color=GENETIC, alpha=0.6, mew=0, ms=6, label="far above")
    failed = values.index[values.isna()]
    if len(failed):
        rim, upper = np.full(len(failed), 0.98), ax.get_xaxis_transform()
        ax.plot(x[failed], rim, "x", color=MUTED, ms=6, label="failed, or at chance", transform=upper)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    ax.set_xlim(-0.5, search["generation"].max() + 0.5)
    return top


@svg
def genes(maps: Mapping[str, Sequence[Sequence[float]]], kilobytes: Mapping[str, float]) -> tuple[Figure, str]:
    """Matrices as pictures, purple where positive, orange where negative, each with its own scale. Below are sizes of files."""
    heights = [2.6, 0.7 + 0.32 * len(kilobytes)]
    figure = Figure(figsize=(5.4, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).flat
    for ax, (name, rows) in zip(above.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        values = np.array(rows)
        limit = np.abs(values).max() or 1.0
        ax.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="none")
        ax.set(title=name, xlabel=f"{values.shape[0]} × {values.shape[1]}, ±{limit:.2g}", xticks=[], yticks=[])
        ax.grid(visible=False)
    ax = below.subplots()
    colours = [GENETIC if name.startswith("genes") else OTHER for name in kilobytes]
    bars = ax.barh(list(kilobytes), list(kilobytes.values()), color=colours, height=0.7)
    ax.bar_label(bars, fmt="%.0f", padding=3, fontsize=8.5)
    ax.set(xlabel="kB", xlim=(0, 1.18 * max(kilobytes.values())), title="The same network, stored")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    figure.draw_without_rendering()  # a second layout, in `svg`, knows how high the maps are
    return figure, f"Heat maps of {', '.join(maps)}, and the sizes of {', '.join(kilobytes)}."
