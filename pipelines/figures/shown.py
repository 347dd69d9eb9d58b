"""The figures of one image's spikes and of the genes, each drawn by a function that returns SVG text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.figures.svg import GENETIC, INK, OTHER, label, panel, svg

SILENT = "#e8eef3"


@svg
def raster(spikes: Mapping[str, Sequence[str]], layers: pd.DataFrame) -> tuple[Figure, str]:
    """Some neurons of every layer as rows and the steps as columns, a spike dark; on the right the layers' firing rates."""
    n, T = len(spikes), len(next(iter(spikes.values()))[0])
    figure = Figure(figsize=(5.4, 1.2 + 0.42 * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    look: dict[str, Any] = {"cmap": ListedColormap([SILENT, INK]), "vmin": 0, "vmax": 1, "rasterized": True}
    for place, rows in enumerate(spikes.values()):
        seen = np.array([[int(step) for step in row] for row in rows])
        edges = np.linspace(place - 0.42, place + 0.42, len(rows) + 1)
        left.pcolormesh(np.arange(T + 1) + 0.5, edges, seen, **look)
    left.set_yticks(range(n), [label(name, 22) for name in spikes], parse_math=False)
    left.set(xlabel="time step", ylim=(n - 0.5, -0.5), title="One image: spikes")
    left.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    left.grid(visible=False)
    rates = 100 * layers.set_index("layer")["output_rate"].reindex(spikes).fillna(0.0)
    right.barh(range(n), rates, color=GENETIC, height=0.7)
    for place, rate in enumerate(rates):
        right.text(rate, place, f" {rate:.1f}", va="center", fontsize=8.5, color=INK)
    right.set(xlabel="firing rate (%)", title="All test images", xlim=(0, 1.25 * max(rates.max(), 0.1)))
    right.grid(axis="y", visible=False)
    return figure, f"Spikes of one image in {n} layers over {T} steps, and the firing rate of each layer."


@svg
def gene_maps(maps: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Figure, str]:
    """Matrices as pictures: blue is positive, orange negative, each with a scale of its own."""
    figure = Figure(figsize=(5.4, 2.6), layout="constrained")
    for ax, (name, rows) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        values = np.array(rows)
        limit = np.abs(values).max() or 1.0
        ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="none")
        ax.set(title=name, xlabel=f"{values.shape[0]} × {values.shape[1]}, ±{limit:.2g}", xticks=[], yticks=[])
        ax.grid(visible=False)
    return figure, f"Heat maps of {', '.join(maps)}."


@svg
def file_sizes(kilobytes: Mapping[str, float]) -> tuple[Figure, str]:
    """A bar per file, those with genes blue."""
    figure, ax = panel(0.7 + 0.32 * len(kilobytes))
    for place, (name, size) in enumerate(kilobytes.items()):
        ax.barh(place, size, color=GENETIC if name.startswith("genes") else OTHER, height=0.7)
        ax.text(size, place, f" {size:,.0f}", va="center", fontsize=8.5, color=INK)
    ax.set_yticks(range(len(kilobytes)), kilobytes)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="kB", xlim=(0, 1.18 * max(kilobytes.values())), title="The same network, stored")
    return figure, f"Sizes of {', '.join(kilobytes)}."
