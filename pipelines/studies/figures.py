"""A study's figures, each drawn by a function of a table that returns SVG text. Equal tables give equal bytes.

Of every figure, ``y`` is one of METRICS, and ``group`` are the columns whose labels make the groups (none: one group).
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.figures.svg import GENETIC, INK, MARK, MUTED, OTHER, headline, label, log_axis, panel, svg
from pipelines.studies.metrics import METRICS

COLOURS = (GENETIC, OTHER, "#009e73", "#cc79a7", "#56b4e9", MARK, MUTED)
MARKERS = "osD^vPX"
LONGEST = 40
"""Characters of a label; longer ones are cut."""


class Group(NamedTuple):
    """The cells with the same labels, and how they are drawn."""

    name: str
    rows: pd.DataFrame
    colour: str
    marker: str


@svg
def bars(cells: pd.DataFrame, y: str, group: list[str]) -> tuple[Figure, str]:
    """Mean by group as bars, standard deviations as lines, every seed as a dot."""
    groups, title = _split(cells, group), METRICS[y].header
    figure, ax = panel(1.2 + 0.3 * len(groups))
    for place, (_, rows, *_) in enumerate(groups):
        values = METRICS[y].scale * rows[y].dropna()
        if len(values):
            sd = values.std(ddof=1) if len(values) > 1 else 0.0
            error = {"ecolor": INK, "lw": 1.2}
            ax.barh(place, values.mean(), xerr=sd, color=GENETIC, alpha=0.55, height=0.65, error_kw=error)
            ax.plot(values, np.full(len(values), place), "o", color=INK, ms=3.2, mew=0)
    ax.set_yticks(range(len(groups)), [name for name, *_ in groups], fontsize=8, parse_math=False)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel=title)
    headline(figure, ax, f"{_capital(title)}: mean, sd, every seed")
    return figure, f"{title} of {len(groups)} groups."


@svg
def line(cells: pd.DataFrame, x: str, y: str, group: list[str]) -> tuple[Figure, str]:
    """y over the numeric column ``x``, a line per group, mean ± standard deviation over the seeds."""
    groups, title, name_of_x = _split(cells, group), METRICS[y].header, label(x, LONGEST)
    figure, ax = panel(3.6)
    for name, rows, colour, marker in groups:
        places = pd.to_numeric(rows[x], errors="coerce")
        by_x = (METRICS[y].scale * rows[y]).groupby(places).agg(["mean", "std"]).dropna(subset="mean")
        sd = by_x["std"].fillna(0.0)
        ax.fill_between(by_x.index, by_x["mean"] - sd, by_x["mean"] + sd, color=colour, alpha=0.15, lw=0)
        ax.plot(by_x["mean"], color=colour, marker=marker, ms=5, label=name)
    ax.set(xlabel=name_of_x, ylabel=title)
    headline(figure, ax, f"{_capital(title)} over {name_of_x}: mean ± sd")
    return figure, f"{title} over {x} for {len(groups)} groups."


@svg
def scatter(cells: pd.DataFrame, x: str, y: str, group: list[str], labels: list[str]) -> tuple[Figure, str]:
    """y over the metric ``x``, a mark per combination of labels, mean ± standard deviation over the seeds."""
    groups, title, title_of_x = _split(cells, group), METRICS[y].header, METRICS[x].header
    figure, ax = panel(3.8)
    seen: list[float] = []
    for name, rows, colour, marker in groups:
        points = rows.groupby(labels, sort=False)[[x, y]].agg(["mean", "std"])
        points = points.dropna(subset=[(x, "mean"), (y, "mean")])
        if points.empty:  # for instance n_genes of plain networks
            continue
        across, up = METRICS[x].scale * points[x]["mean"], METRICS[y].scale * points[y]
        seen += list(across)
        ax.errorbar(across, up["mean"], up["std"].fillna(0.0), fmt=marker, color=colour, ms=6, lw=1.2, label=name)
    if logarithmic := bool(seen) and min(seen) > 0:
        log_axis(ax, pd.Series(seen))
    ax.set(xlabel=f"{title_of_x} (log)" if logarithmic else title_of_x, ylabel=title)
    headline(figure, ax, f"{_capital(title)} over {title_of_x}: mean ± sd")
    return figure, f"{title} over {title_of_x} for {len(groups)} groups."


def _split(frame: pd.DataFrame, columns: list[str]) -> list[Group]:
    """The groups by the labels in ``columns``, in order of appearance; without columns one group."""
    groups = frame.groupby(columns, sort=False) if columns else [(("all",), frame)]
    looks = [(colour, (MARKERS * 2)[n + r]) for r in range(len(MARKERS)) for n, colour in enumerate(COLOURS)]
    named = zip(groups, itertools.cycle(looks), strict=False)  # 49 groups can be told apart
    return [Group(label(", ".join(map(str, names)), LONGEST), rows, *look) for (names, rows), look in named]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
