"""A study's figures, each drawn by a function of a table that returns SVG text. Equal tables give equal bytes.

Of every figure, ``group`` are the columns whose labels make the groups (none: one group), and ``labels`` the columns that
tell the trained networks of one seed apart.
"""

from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import t as student

from pipelines.figures.measurements import DEFECTS, Curve, defect_panels
from pipelines.figures.svg import GENETIC, INK, MARK, MUTED, OTHER, headline, label, log_axis, panel, svg

COLOURS = (GENETIC, OTHER, "#009e73", "#cc79a7", "#56b4e9", MARK, MUTED)
MARKERS = "osD^vPX"


class Axis(NamedTuple):
    """A column of numbers as an axis."""

    column: str
    title: str
    """Its name with the unit."""
    scale: float
    """Factor on the values: 100 for percent."""


@svg
def bars(cells: pd.DataFrame, y: Axis, group: list[str]) -> tuple[Figure, str]:
    """Mean by group as bars, standard deviations as lines, every seed as a dot."""
    groups = _groups(cells, group)
    figure, ax = panel(1.2 + 0.3 * len(groups))
    for place, (_, rows, _) in enumerate(groups):
        values = y.scale * rows[y.column].dropna()
        if len(values):
            sd = values.std(ddof=1) if len(values) > 1 else 0.0
            error = {"ecolor": INK, "lw": 1.2}
            ax.barh(place, values.mean(), xerr=sd, color=GENETIC, alpha=0.55, height=0.65, error_kw=error)
            ax.plot(values, np.full(len(values), place), "o", color=INK, ms=3.2, mew=0)
    ax.set_yticks(range(len(groups)), [name for name, _, _ in groups], fontsize=8, parse_math=False)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel=y.title)
    headline(figure, ax, f"{_capital(y.title)}: mean, sd, every seed")
    return figure, f"{y.title} of {len(groups)} groups."


@svg
def line(cells: pd.DataFrame, x: str, y: Axis, group: list[str]) -> tuple[Figure, str]:
    """y over the numeric column ``x``, a line per group, mean ± standard deviation over the seeds."""
    groups = _groups(cells, group)
    figure, ax = panel(3.6)
    for name, rows, look in groups:
        places = pd.to_numeric(rows[x], errors="coerce")
        by_x = (y.scale * rows[y.column]).groupby(places).agg(["mean", "std"]).dropna(subset="mean")
        _band(ax, by_x["mean"], by_x["std"], look["color"], 0.15)
        ax.plot(by_x["mean"], **look, ms=5, label=name)
    ax.set(xlabel=_short(x), ylabel=y.title)
    headline(figure, ax, f"{_capital(y.title)} over {_short(x)}: mean ± sd")
    return figure, f"{y.title} over {x} for {len(groups)} groups."


@svg
def scatter(cells: pd.DataFrame, x: Axis, y: Axis, group: list[str], labels: list[str]) -> tuple[Figure, str]:
    """y over x, a mark per combination of labels, mean ± standard deviation over the seeds."""
    groups = _groups(cells, group)
    figure, ax = panel(3.8)
    seen: list[float] = []
    for name, rows, look in groups:
        points = rows.groupby(labels, sort=False)[[x.column, y.column]].agg(["mean", "std"])
        points = points.dropna(subset=[(x.column, "mean"), (y.column, "mean")])
        if points.empty:  # for instance n_genes of plain networks
            continue
        across, up = x.scale * points[x.column]["mean"], y.scale * points[y.column]
        seen += list(across)
        form = {"fmt": look["marker"], "color": look["color"], "ms": 6, "lw": 1.2}
        ax.errorbar(across, up["mean"], up["std"].fillna(0.0), **form, label=name)
    if logarithmic := bool(seen) and min(seen) > 0:
        log_axis(ax, pd.Series(seen))
    ax.set(xlabel=f"{x.title} (log)" if logarithmic else x.title, ylabel=y.title)
    headline(figure, ax, f"{_capital(y.title)} over {x.title}: mean ± sd")
    return figure, f"{y.title} over {x.title} for {len(groups)} groups."


@svg
def noise(
    strengths: pd.DataFrame,
    group: list[str],
    labels: list[str],
    title: list[str],
    published: list[tuple[str, list[float | None]]],
) -> tuple[Figure, str]:
    """Accuracy over r by group, with the 95 % confidence band of `noise_curve`; ``title`` are parts of the title.

    ``published`` are names, and the accuracies at r = 0 and 0.5.
    """
    figure, ax = panel(4.2)
    groups = _groups(strengths, group)
    for name, rows, look in groups:
        curve = 100 * noise_curve(rows, labels)
        _band(ax, curve["mean"], curve["half_width"], look["color"], 0.13)
        ax.plot(curve["mean"], **look, ms=4, label=name)
    for (name, accuracies), marker in zip(published, cycle("x+1234"), strict=False):
        y = 100 * np.array(accuracies, float)
        ax.plot([0.0, 0.5], y, marker, color=INK, ms=7, mew=1.6, ls="", label=label(f"published: {name}", 120))
    ax.set(xlabel="noise strength r (noise norm / image norm)", ylabel="test accuracy (%)", ylim=(0, 102))
    ax.set_title(", ".join(["Accuracy under noise", *map(_short, title), "95 % confidence"]))
    figure.legend(loc="outside lower left", ncols=2, fontsize=7)
    return figure, f"Test accuracy over noise strength for {len(groups)} groups."


def noise_curve(rows: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """By r: `mean`, `n` and `half_width` of the 95 % confidence interval (Student's t) of the accuracy.

    The unit is a trained network, its noise draws averaged, since draws on one network say nothing about the next; with one
    network it is the draw. Columns ``r, network_seed, accuracy`` and ``labels``, a row per network, strength and noise draw.
    """
    units = _by_network(rows, "r", labels)
    several = units.groupby("r").size().max() > 1
    accuracy = (units if several else rows).groupby("r")["accuracy"]
    curve = accuracy.agg(mean="mean", n="count", sd=lambda values: values.std(ddof=1))
    quantile = student.ppf(0.975, (curve["n"] - 1).clip(lower=1))
    curve["half_width"] = (quantile * curve["sd"] / np.sqrt(curve["n"])).where(curve["n"] > 1)
    return curve[["mean", "n", "half_width"]]


@svg
def hardware(accuracies: pd.DataFrame, group: list[str], labels: list[str]) -> tuple[Figure, str]:
    """Accuracy over the strength of each defect of hardware, a panel per domain: `defect_curve` by group, mean ± sd."""
    curves: dict[str, list[Curve]] = {}
    groups = _groups(accuracies, group)
    for domain in DEFECTS:
        of_domain = [(name, rows[rows["domain"] == domain], look) for name, rows, look in groups]
        if shown := [(name, 100 * defect_curve(rows, labels), look) for name, rows, look in of_domain if len(rows)]:
            curves[domain] = shown
    return defect_panels(curves), f"Test accuracy under {len(curves)} defects of hardware."


def defect_curve(rows: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """By strength: `mean` and `sd` (0 for one network) of the accuracy over the networks, `low` and `high` = mean ± sd.

    Columns ``strength, network_seed, accuracy`` and ``labels``, a row per network, strength and draw.
    """
    accuracy = _by_network(rows, "strength", labels).groupby("strength")["accuracy"]
    curve = accuracy.agg(mean="mean", sd=lambda values: values.std(ddof=1)).fillna({"sd": 0.0})
    return curve.assign(low=curve["mean"] - curve["sd"], high=curve["mean"] + curve["sd"])


@svg
def layers(by_layer: pd.DataFrame, group: list[str]) -> tuple[Figure, str]:
    """Energy of computing and of building W, and input rates, by layer in order of execution: means over the seeds."""
    groups = _groups(by_layer, group)
    figure = Figure(figsize=(9.6, 1.4 + 0.22 * by_layer["layer"].nunique()), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    shown = [
        ("energy_mj", 1e3, "Computing (µJ)"),
        ("decode_energy_mj", 1e3, "Building W (µJ)"),
        ("input_rate", 100, "Input rate (%)"),
    ]
    names = list(dict.fromkeys(by_layer["layer"]))
    for name, rows, look in groups:
        means = rows.groupby("layer", sort=False)[[column for column, _, _ in shown]].mean().reindex(names)
        for ax, (column, scale, _) in zip(axes, shown, strict=True):
            ax.plot(scale * means[column], range(len(names)), **look, ls="", ms=4.5, label=name)
    for ax, (_, _, title) in zip(axes, shown, strict=True):
        ax.set(title=title, ylim=(len(names) - 0.4, -0.6))
        ax.set_xlim(left=0)
    axes[0].set_yticks(range(len(names)), [label(name, 30) for name in names], fontsize=7.5, parse_math=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3)
    return figure, f"Energy and firing rate of {len(names)} layers for {len(groups)} groups."


@svg
def fitness_against_accuracy(candidates: pd.DataFrame, correlations: pd.DataFrame) -> tuple[Figure, str]:
    """L_ce after the proxy training against the accuracy after the full one, a colour per seed, a panel per E.

    Of a wiring that is trained several times, the mean accuracy counts, as for τ.
    """
    candidates = candidates.groupby(["E", "seed", "candidate"], as_index=False)[["L_ce", "test_accuracy"]].mean()
    epochs = list(dict.fromkeys(candidates["E"]))
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(epochs), sharey=True, squeeze=False)[0]
    for ax, E in zip(axes, epochs, strict=True):
        for (seed, rows), colour in zip(candidates[candidates["E"] == E].groupby("seed"), cycle(COLOURS), strict=False):
            ax.plot(rows["L_ce"], 100 * rows["test_accuracy"], "o", color=colour, ms=4.5, mew=0, label=f"seed {seed}")
        taus = correlations[(correlations["E"] == E) & (correlations["fitness"] == "baseline")]["tau"]
        ax.set(xlabel="L_ce after the proxy", title=f"E = {E}: τ of L_ce {taus.mean():.2f}")
    axes[0].set(ylabel="test accuracy after full training (%)")
    return figure, f"Proxy loss against final accuracy of {len(candidates) // len(epochs)} candidates."


def _groups(frame: pd.DataFrame, columns: list[str]) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """(name, rows, colour and marker) by the labels in ``columns``, in order of appearance; without columns one group."""
    groups = frame.groupby(columns, sort=False) if columns else [(("all",), frame)]
    return [(_short(", ".join(map(str, names))), rows, look_of(place)) for place, (names, rows) in enumerate(groups)]


def _by_network(rows: pd.DataFrame, x: str, labels: list[str]) -> pd.DataFrame:
    """The accuracy by ``x`` and network, its draws averaged; `domain`, of the noise, tells no networks apart."""
    network = [*(column for column in labels if column != "domain"), "network_seed"]
    return rows.groupby([x, *network], as_index=False)["accuracy"].mean()


def look_of(place: int) -> dict[str, Any]:
    """Colour and marker of the group at ``place``; 49 groups can be told apart."""
    rounds = place // len(COLOURS)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[(place + rounds) % len(MARKERS)]}


def _band(ax: Axes, middle: pd.Series, half_width: pd.Series, colour: str, alpha: float) -> None:
    half_width = half_width.fillna(0.0)
    ax.fill_between(middle.index, middle - half_width, middle + half_width, color=colour, alpha=alpha, lw=0)


def _short(name: str) -> str:
    return label(name, 40)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
