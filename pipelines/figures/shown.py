"""The figures of one image's spikes and of the genes, each drawn by a function that returns SVG text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.figures.svg import GENETIC, INK, OTHER, label, svg

SILENT_OR_SPIKE = ListedColormap(["#e8eef3", INK])


@svg
def raster(spikes: Mapping[str, Sequence[str]], layers: pd.DataFrame) -> tuple[Figure, str]:
    """Some neurons of every layer as rows and the steps as columns, a spike dark; on the right the layers' firing rates."""
    n, T = len(spikes), len(next(iter(spikes.values()))[0])
    figure = Figure(figsize=(5.4, 1.2 + 0.42 * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for place, rows in enumerate(spikes.values()):
        seen, edges = [list(map(int, row)) for row in rows], np.linspace(place - 0.42, place + 0.42, len(rows) + 1)
        left.pcolormesh(np.arange(T + 1) + 0.5, edges, seen, cmap=SILENT_OR_SPIKE, vmin=0, vmax=1, rasterized=True)
    left.set_yticks(range(n), [label(name, 30) for name in spikes], parse_math=False)
    left.set(xlabel="time step", ylim=(n - 0.5, -0.5), title="One image: spikes")
    left.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    left.grid(visible=False)
    rates = 100 * layers.set_index("layer")["output_rate"].reindex(list(spikes)).fillna(0.0)
    right.bar_label(right.barh(range(n), rates, color=GENETIC, height=0.7), fmt="%.1f", padding=3, fontsize=8.5)
    right.set(xlabel="firing rate (%)", title="All test images", xlim=(0, 1.25 * max(rates.max(), 0.1)))
    right.grid(axis="y", visible=False)
    return figure, f"Spikes of one image in {n} layers over {T} steps, and the firing rate of each layer."


@svg
def genes(maps: Mapping[str, Sequence[Sequence[float]]], kilobytes: Mapping[str, float]) -> tuple[Figure, str]:
    """Matrices as pictures, purple where positive and orange where negative, each with its own scale; below, sizes of files."""
    heights = [2.6, 0.7 + 0.32 * len(kilobytes)]
    figure = Figure(figsize=(5.4, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).flat
    for ax, (name, rows) in zip(above.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        values = np.array(rows)
        limit = np.abs(values).max() or 1.0
        ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="none")
        ax.set(title=name, xlabel=f"{values.shape[0]} × {values.shape[1]}, ±{limit:.2g}", xticks=[], yticks=[])
        ax.grid(visible=False)
    ax = below.subplots()
    colours = [GENETIC if name.startswith("genes") else OTHER for name in kilobytes]
    bars = ax.barh(list(kilobytes), list(kilobytes.values()), color=colours, height=0.7)
    ax.bar_label(bars, fmt="%.0f", padding=3, fontsize=8.5)
    ax.set(xlabel="kB", xlim=(0, 1.18 * max(kilobytes.values())), title="The same network, stored")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure, f"Heat maps of {', '.join(maps)}, and the sizes of {', '.join(kilobytes)}."
