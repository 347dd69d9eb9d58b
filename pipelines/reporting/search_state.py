"""The report's figure of CMA-ES's distribution, drawn by a function of a table as SVG text."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelines.reporting.svg import GENETIC, RAMP, log_axis, svg
from pipelines.reporting.wiring import searched_rows, symbol

FEW = 10
"""As many genes have a line each; more have a row of squares each."""


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
            for name, colour in zip(names, colormaps["tab10"].colors, strict=False):
                axes[what].plot(values[name], color=colour, lw=1.5, marker="o", ms=3.5, label=name)
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


def _rows(ax: Axes, values: pd.DataFrame, colours, norm: Normalize) -> None:
    """A row of squares per gene, a column per generation, and the scale of their colours."""
    n, first, last = values.shape[1], values.index.min(), values.index.max()
    image = ax.imshow(
        values.T, cmap=colours, norm=norm, aspect="auto", interpolation="none", extent=(first - 0.5, last + 0.5, n, 0)
    )
    shown = np.arange(0, n, 1 + (n - 1) // 60)
    ax.set_yticks(shown + 0.5, values.columns[shown], fontsize=7)
    ax.grid(visible=False)
    scale = {"location": "bottom", "aspect": 30, "shrink": 0.9, "pad": 0.02}
    bar = ax.figure.colorbar(image, ax=ax, ticks=MaxNLocator(4), format=FuncFormatter(lambda value, _: f"{value:.3g}"), **scale)
    bar.minorticks_off()
    bar.outline.set_visible(False)
