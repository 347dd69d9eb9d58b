"""The figure and the table of the accuracy under the defects of hardware."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from pipelines.figures.svg import GENETIC, svg

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
COLUMNS, MOST_TICKS = 3, 6

Curve = tuple[str, pd.DataFrame, dict]
"""Label, `mean, low, high` in percent by strength, and look."""


@svg
def accuracy_under_defects(hardware: pd.DataFrame) -> tuple[Figure, str]:
    """Mean accuracy over the strength, a panel per domain, the range over the draws as a band."""
    curves = {domain: [("", _by_strength(rows), {"color": GENETIC, "marker": "o"})] for domain, rows in _by_domain(hardware)}
    return defect_panels(curves), f"Test accuracy under {len(curves)} defects of hardware."


def defect_panels(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """A panel per domain with its curves and their bands. Strengths are evenly spaced, whatever their values."""
    n_rows = -(-len(curves) // COLUMNS)
    several = any(len(of_domain) > 1 for of_domain in curves.values())
    figure = Figure(figsize=(9.6, 2.25 * n_rows + 0.4 * several), layout="constrained")
    axes = figure.subplots(n_rows, min(COLUMNS, len(curves)), sharey=True, squeeze=False).flatten()
    for ax in axes[len(curves) :]:
        ax.remove()
    for ax, (domain, of_domain) in zip(axes, curves.items(), strict=False):
        strengths = sorted({strength for _, curve, _ in of_domain for strength in curve.index})
        for name, curve, look in of_domain:
            x = [strengths.index(strength) for strength in curve.index]
            ax.fill_between(x, curve["low"], curve["high"], color=look["color"], alpha=0.18, lw=0)
            ax.plot(x, curve["mean"], **look, ms=4.5, label=name)
        shown = range(0, len(strengths), -(-len(strengths) // MOST_TICKS))
        ax.set_xticks(shown, [f"{strengths[i]:g}" for i in shown])
        title, unit = DEFECTS[domain]
        ax.set(title=title, xlabel=unit, ylim=(0, 102))
    for ax in axes[::COLUMNS]:
        ax.set_ylabel("test accuracy (%)")
    if several:
        handles, labels = max(axes[: len(curves)], key=lambda ax: len(ax.lines)).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4)
    return figure


def defect_table(hardware: pd.DataFrame) -> list[dict]:
    """A row per domain and strength: `title, unit, strength, mean, low, high`; `middle` marks one row of each domain."""
    rows = []
    for domain, of_domain in _by_domain(hardware):
        title, unit = DEFECTS[domain]
        found = _by_strength(of_domain) / 100
        for place, (strength, row) in enumerate(found.iterrows()):
            names = {"title": title, "unit": unit, "strength": strength, "middle": place == len(found) // 2}
            rows.append(names | row.to_dict())
    return rows


def _by_domain(hardware: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(domain, rows) for domain in DEFECTS if len(rows := hardware[hardware["domain"] == domain])]


def _by_strength(rows: pd.DataFrame) -> pd.DataFrame:
    """`mean, low, high` of the accuracy over the draws, in percent, by strength."""
    return 100 * rows.groupby("strength")["accuracy"].agg(mean="mean", low="min", high="max")
