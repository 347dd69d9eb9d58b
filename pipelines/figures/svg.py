"""Styles matplotlib figures, and converts them to SVG text for embedding in a page."""

import functools
import html
import io
import re
import warnings
from collections.abc import Callable
from typing import ParamSpec

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

GENETIC, OTHER, MARK = "#0072b2", "#e69f00", "#c2410c"
"""Our values, values to compare with, and highlights: three hues that colour-blind readers can distinguish."""
INK, MUTED, EDGE, GRID = "#1f2933", "#5b6673", "#b8c2cc", "#e3e8ee"
DARK = {INK: "#e6ebef", MUTED: "#a7b3bd", EDGE: "#5b6873", GRID: "#33404a", GENETIC: "#2f8fd0", MARK: "#f0884f"}
"""Colours on a dark page, where they differ."""
ON_DARK = "".join(f'[style*="{part}: {c}"]{{{part}: {DARK[c]} !important}}' for c in DARK for part in ("fill", "stroke"))
RAMP = LinearSegmentedColormap.from_list("genetic", [(GENETIC, 0.05), GENETIC])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#e66101", ("#888888", 0.0), "#7b5fc9"])
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": EDGE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 2,
}

Drawn = ParamSpec("Drawn")
"""The arguments of a figure."""


def svg(draw: Callable[Drawn, tuple[Figure, str]]) -> Callable[Drawn, str]:
    """Decorator: turns a function that returns a figure and its description into one that returns SVG text for a page.

    Text remains text, ids are unique in the page, there is no date, and the machine's matplotlibrc is ignored.
    """

    @functools.wraps(draw)
    def drawn(*arguments: Drawn.args, **options: Drawn.kwargs) -> str:
        name, file = draw.__name__, io.StringIO()
        with matplotlib.style.context(["default", STYLE | {"svg.hashsalt": name}]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # names may be in any script: the browser has the fonts
            figure, description = draw(*arguments, **options)
            figure.draw_without_rendering()  # lays it out, which each savefig would repeat
            figure.set_layout_engine(None)
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(file, format="svg", metadata=metadata, dpi=200, transparent=True)
        return _embeddable(file.getvalue(), name, description)

    return drawn


def _embeddable(svg: str, name: str, description: str) -> str:
    """The SVG without prolog, comments and unused ids. Other ids get the prefix ``name``, since they share the page."""
    svg = re.sub(r"<!--.*?-->\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))

    def fix(tag: re.Match[str]) -> str:
        kept = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", tag[0])
        return re.sub(r'(url\(#|href="#)', rf"\1{name}-", kept)

    svg = re.sub(r"<[^>]+>", fix, svg)  # only inside tags: a class name may look like an attribute
    svg = svg.replace("</style>", f"@media (prefers-color-scheme: dark){{{ON_DARK}}}</style>", 1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1)


def panel(height: float) -> tuple[Figure, Axes]:
    """A figure of half the page's width and ``height`` inches, and its only axes."""
    figure = Figure(figsize=(5.4, height), layout="constrained")
    return figure, figure.subplots()


def headline(figure: Figure, ax: Axes, title: str) -> None:
    """Put ``title`` over ``ax``, and a legend under the figure if there are labels."""
    ax.set_title(title)
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower left", ncols=4)


def label(name: str, most: int = 18) -> str:
    """``name`` cut to ``most`` characters, without characters that XML or a font cannot hold."""
    shown = "".join(c if c.isprintable() else "�" for c in str(name))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def log_axis(ax: Axes, values: pd.Series, side: str = "x") -> None:
    """Make the axis ``side`` of ``ax``, x or y, logarithmic with plain numbers, also where values span less than a decade."""
    low, high = np.log(values.min()), np.log(values.max())
    pad = max(0.1 * (high - low), 0.05)
    ax.set(**{f"{side}scale": "log", f"{side}lim": (np.exp(low - pad), np.exp(high + pad))})
    axis = getattr(ax, f"{side}axis")
    axis.set_major_locator(MaxNLocator(5) if high - low < np.log(10) else LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"))
