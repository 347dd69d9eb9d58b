"""A study's figures, each drawn by a function of a table that returns SVG text. Equal tables give equal bytes.

Of every figure, ``group`` are the columns whose labels make the groups (none: one group).
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    groups = _split(cells, group)
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
    groups = _split(cells, group)
    figure, ax = panel(3.6)
    for name, rows, look in groups:
        places = pd.to_numeric(rows[x], errors="coerce")
        by_x = (y.scale * rows[y.column]).groupby(places).agg(["mean", "std"]).dropna(subset="mean")
        sd = by_x["std"].fillna(0.0)
        ax.fill_between(by_x.index, by_x["mean"] - sd, by_x["mean"] + sd, color=look["color"], alpha=0.15, lw=0)
        ax.plot(by_x["mean"], **look, ms=5, label=name)
    ax.set(xlabel=_short(x), ylabel=y.title)
    headline(figure, ax, f"{_capital(y.title)} over {_short(x)}: mean ± sd")
    return figure, f"{y.title} over {x} for {len(groups)} groups."


@svg
def scatter(cells: pd.DataFrame, x: Axis, y: Axis, group: list[str], labels: list[str]) -> tuple[Figure, str]:
    """y over x, a mark per combination of labels, mean ± standard deviation over the seeds."""
    groups = _split(cells, group)
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


def _split(frame: pd.DataFrame, columns: list[str]) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """(name, rows, colour and marker) by the labels in ``columns``, in order of appearance; without columns one group."""
    groups = frame.groupby(columns, sort=False) if columns else [(("all",), frame)]
    looks = [{"color": colour, "marker": (MARKERS * 2)[n + r]} for r in range(len(MARKERS)) for n, colour in enumerate(COLOURS)]
    named = zip(groups, itertools.cycle(looks), strict=False)  # 49 groups can be told apart
    return [(_short(", ".join(map(str, names))), rows, look) for (names, rows), look in named]


def _short(name: str) -> str:
    return label(name, 40)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
