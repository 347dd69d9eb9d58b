"""The figures of training, test and spikes, each drawn by a function that returns SVG text: equal tables, equal bytes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from gee_core.evaluation.activity import energy_text, energy_unit
from pipelines.figures.svg import GENETIC, GRID, INK, MARK, MUTED, OTHER, RAMP, headline, label, panel, svg

SPIKES = LinearSegmentedColormap.from_list("spikes", [(MUTED, 0.15), GENETIC])
WITH_NUMBERS = 20
"""The confusion matrix of as many classes has a number in every square. With more classes it is as wide as the page."""
DEFECTS = {
    "weights": ("Noise on weights", "σ over the weights’ RMS"),
    "genes": ("Noise on genes", "σ over the genes’ RMS"),
    "stuck": ("Weights stuck at 0", "probability per weight"),
    "threshold": ("Mismatch of thresholds", "σ over V_th"),
    "dropped": ("Dropped spikes", "probability per spike"),
    "spurious": ("Spurious spikes", "probability per neuron and step"),
    "lost_step": ("Lost steps", "steps of T"),
    "weight_bits": ("Bit flips in int8 weights", "probability per bit"),
    "gene_bits": ("Bit flips in int8 genes", "probability per bit"),
}
"""Title and unit of the strength, by domain."""
COLUMNS, MOST_TICKS = 2, 4
"""Panels in a row of the figure of defects, and ticks of each."""


@svg
def training_curve(history: pd.DataFrame) -> tuple[Figure, str]:
    """Accuracy and loss over the epochs."""
    figure = Figure(figsize=(5.4, 4.1), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    dot = "o" if len(history) < 3 else None
    above.plot(history["epoch"], 100 * history["train_accuracy"], color=GENETIC, marker=dot, label="training images")
    below.plot(history["epoch"], history["train_loss"], color=GENETIC, marker=dot)
    last, name = history["train_accuracy"].iloc[-1], "training"
    for of, images in (("val", "held-out"), ("test", "test")):
        if f"{of}_accuracy" in history:
            rows = history.dropna(subset=f"{of}_accuracy")
            above.plot(rows["epoch"], 100 * rows[f"{of}_accuracy"], color=OTHER, marker="o", ms=3, label=f"{images} images")
            below.plot(rows["epoch"], rows[f"{of}_loss"], color=OTHER, marker="o", ms=3)
            last, name = rows[f"{of}_accuracy"].iloc[-1], images
    above.set(ylabel="accuracy (%)")
    below.set(xlabel="epoch", ylabel="loss")
    below.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    title = f"{100 * last:.1f} % {name} accuracy after {len(history)} epoch{'s'[: len(history) > 1]}"
    headline(figure, above, title)
    return figure, f"Accuracy and loss by epoch: {title}."


@svg
def raster(spikes: Mapping[str, Sequence[Sequence[int]]], layers: pd.DataFrame) -> tuple[Figure, str]:
    """Neurons of every layer as rows and the steps as columns, a spike blue. On the right are the layers' firing rates.

    Where there is one step, the neurons are columns, with what they fire as numbers.
    """
    most = max(max(row) for rows in spikes.values() for row in rows)
    n, T = len(spikes), len(next(iter(spikes.values()))[0])
    figure = Figure(figsize=(5.4, 1.2 + 0.42 * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for place, rows in enumerate(spikes.values()):
        seen = np.array(rows[::2]).T if T == 1 else np.array(rows)
        edges, columns = np.linspace(place - 0.42, place + 0.42, len(seen) + 1), np.arange(seen.shape[1] + 1) + 0.5
        left.pcolormesh(columns, edges, seen, cmap=SPIKES, vmin=0, vmax=max(most, 1), rasterized=True)
        for column, fired in enumerate(seen[0] if T == 1 else (), 1):
            ink = "white" if 2 * fired > most else INK
            left.text(column, place, str(fired), ha="center", va="center", fontsize=7, color=ink)
    left.set_yticks(range(n), [label(name, 30) for name in spikes], parse_math=False)
    left.set(xlabel="neuron" if T == 1 else "time step", ylim=(n - 0.5, -0.5), title="One image: spikes")
    left.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    left.grid(visible=False)
    rates = (100 if most < 2 else 1) * layers.set_index("layer")["output_rate"].reindex(list(spikes)).fillna(0.0)
    right.bar_label(right.barh(range(n), rates, color=GENETIC, height=0.7), fmt="%.1f", padding=3, fontsize=8.5)
    unit = "firing rate (%)" if most < 2 else "events per neuron and step"
    right.set(xlabel=unit, title="All test images", xlim=(0, 1.25 * max(rates.max(), 0.1)))
    right.grid(axis="y", visible=False)
    return figure, f"Spikes of one image in {n} layers over {T} steps, and the firing rate of each layer."


@svg
def energy_per_layer(layers: pd.DataFrame) -> tuple[Figure, str]:
    """Energy of computing and of building W of every layer, in order of execution.

    Computing and building have separate axes: with small images computing would be invisible next to building.
    """
    computing, building = layers["energy_mj"], layers["decode_energy_mj"].fillna(0.0)
    energies = [("Computing", computing, GENETIC)] + [("Building W", building, OTHER)] * bool(building.any())
    figure = Figure(figsize=(5.4, 1.0 + 0.235 * max(len(layers), 3)), layout=ConstrainedLayoutEngine(wspace=0.04))
    axes = figure.subplots(1, len(energies), sharey=True, squeeze=False)[0]
    y = np.arange(len(layers))
    for ax, (name, mj, colour) in zip(axes, energies, strict=True):
        unit, scale = energy_unit(mj.max())
        ax.barh(y, scale * mj, color=colour, height=0.7)
        ax.set(xlabel=f"{unit} per image", title=f"{name}: {energy_text(mj.sum())}")
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_yticks(y, [label(name, 30) for name in layers["layer"]], fontsize=8.5, parse_math=False)
    axes[0].invert_yaxis()
    return figure, f"Energy of {len(layers)} layers."


@svg
def accuracy_over_noise(noise: pd.DataFrame, clean_accuracy: float) -> tuple[Figure, str]:
    """Mean accuracy over the noise strength r, the range over the draws as a band, the clean accuracy as a line."""
    figure, ax = panel(3.5)
    by_r = 100 * noise.groupby("r")["accuracy"].agg(["mean", "min", "max"])
    ax.axhline(100 * clean_accuracy, color=MUTED, lw=1.4, ls=(0, (4, 3)), label="clean images")
    ax.fill_between(by_r.index, by_r["min"], by_r["max"], color=GENETIC, alpha=0.2, lw=0, label="range over the draws")
    ax.plot(by_r["mean"], color=GENETIC, marker="o", ms=4.5, label="noisy images, mean")
    is_events = noise["domain"].nunique() > 1
    for i, (kind, rows) in enumerate(noise.groupby("domain", sort=False) if is_events else ()):
        ax.plot(100 * rows.groupby("r")["accuracy"].mean(), color=OTHER, lw=1.2, ls=("-", "--", "-.", ":")[i], label=kind)
    title = "Accuracy under noise"
    if 0.5 in by_r.index:
        at_half = by_r.loc[0.5, "mean"]
        ax.plot(0.5, at_half, "o", mfc="none", mec=MARK, mew=2, ms=11)
        title = f"{at_half:.1f} % at r = 0.5, {100 * clean_accuracy:.1f} % clean"
    ratio = "disturbed events / all events" if is_events else "noise norm / image norm"
    ax.set(xlabel=f"noise strength r ({ratio})", ylabel="test accuracy (%)", ylim=(0, 102))
    headline(figure, ax, title)
    return figure, f"Test accuracy over noise strength: {title}."


def confusion_counts(confusion: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Number of test images by actual (row) and predicted (column) class, (K, K)."""
    index = pd.Index(class_names)
    counts = np.zeros((len(index), len(index)), dtype=np.int64)
    np.add.at(counts, (index.get_indexer(confusion["actual"]), index.get_indexer(confusion["predicted"])), 1)
    return counts


@svg
def confusion_matrix(confusion: pd.DataFrame, class_names: Sequence[str]) -> tuple[Figure, str]:
    """Share of every actual class (row) that was predicted as each class (column). Columns ``actual``, ``predicted``."""
    counts = confusion_counts(confusion, class_names)
    share, n = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), len(counts)
    rare_visible, large = PowerNorm(0.5, vmin=0, vmax=100), n > WITH_NUMBERS
    figure = Figure(figsize=(9.6, 8.4) if large else (5.4, 4.6), layout="constrained")
    ax = figure.subplots()
    lines = 0.0 if large else 0.6
    image = ax.pcolormesh(share, cmap=RAMP, norm=rare_visible, edgecolors=GRID, lw=lines, rasterized=large)
    ax.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xlabel="predicted", ylabel="actual")
    ax.grid(visible=False)
    if not large:
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if share[row, column] > 25 else INK
            shown = f"{share[row, column]:.0f}"
            ax.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=ink, fontsize=8 if n <= 12 else 6)
    step = 1 + (n - 1) // 50
    names = [label(name) for name in class_names[::step]]
    size = 8 if n <= 12 else 6.5
    ticks = np.arange(0, n, step) + 0.5
    rotation = 90 if max(map(len, names)) > 2 and n > 4 else 0
    ax.set_xticks(ticks, names, rotation=rotation, fontsize=size, parse_math=False)
    ax.set_yticks(ticks, names, fontsize=size, parse_math=False)
    figure.colorbar(image, ax=ax, label="share of the actual class (%)", shrink=0.8, aspect=28).outline.set_visible(False)
    ax.set_title("What is taken for what")
    return figure, f"Confusion matrix of {n} classes, rows normalised."


@svg
def accuracy_under_defects(hardware: pd.DataFrame) -> tuple[Figure, str]:
    """Mean accuracy over the strength, a panel per domain in the order of DEFECTS, the range over the draws as a band.

    Strengths are evenly spaced, whatever their values.
    """
    table = 100 * hardware.groupby(["domain", "strength"])["accuracy"].agg(["mean", "min", "max"])
    domains = [domain for domain in DEFECTS if domain in table.index]
    n_rows = -(-len(domains) // COLUMNS)
    figure = Figure(figsize=(5.4, 2.1 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, min(COLUMNS, len(domains)), sharey=True, squeeze=False).flatten()
    for ax in axes[len(domains) :]:
        ax.remove()
    for ax, domain in zip(axes, domains, strict=False):
        rows = table.loc[domain]
        x, (title, unit) = np.arange(len(rows)), DEFECTS[domain]
        ax.fill_between(x, rows["min"], rows["max"], color=GENETIC, alpha=0.18, lw=0)
        ax.plot(x, rows["mean"], color=GENETIC, marker="o", ms=4.5)
        shown = x[:: -(-len(rows) // MOST_TICKS)]
        ax.set_xticks(shown, [f"{rows.index[i]:g}" for i in shown])
        ax.set(title=title, xlabel=unit, ylim=(0, 102))
    for ax in axes[::COLUMNS]:
        ax.set_ylabel("test accuracy (%)")
    return figure, f"Test accuracy under {len(domains)} defects of hardware."
