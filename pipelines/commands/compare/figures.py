"""The figures of a comparison, as SVG text; a run has the same colour and mark in all of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from pipelines.commands.compare.runs import Run
from pipelines.figures.studies import layers, look_of, noise
from pipelines.figures.svg import INK, headline, label, log_axis, svg


def draw(runs: Sequence[Run]) -> dict[str, str]:
    """The figures for which the runs have data, by name."""

    def rows(table: str) -> pd.DataFrame:
        return pd.concat([run.tables[table].assign(run=run.name, network_seed=0) for run in runs])

    svgs = {
        "trade_offs": trade_offs(runs),
        "training": training(runs),
        "noise": noise(rows("noise"), ["run"], ["run"], [], []),
        "layers": layers(rows("layers"), ["run"]),
    }
    return svgs | ({"wiring": wiring(runs)} if any(len(run.sigmas().dropna()) for run in runs) else {})


def looks(runs: Sequence[Run]) -> Iterator[tuple[Run, dict]]:
    """Every run with its colour, mark and label."""
    for place, run in enumerate(runs):
        yield run, look_of(place) | {"label": label(run.name, 40)}


@svg
def trade_offs(runs: Sequence[Run]) -> tuple[Figure, str]:
    """Accuracy over parameters and over energy; a hollow mark is the energy with building W."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for run, style in looks(runs):
        s = run.summary
        accuracy, low, high = 100 * s.test_accuracy, s.energy_mj, s.energy_with_decoding_mj
        left.plot(s.parameters, accuracy, **style, ms=9, ls="")
        right.plot([low, high], [accuracy] * 2, color=style["color"], lw=1.2, ls=":")
        right.plot(high, accuracy, style["marker"], mfc="white", mec=style["color"], mew=1.6, ms=8)
        right.plot(low, accuracy, style["marker"], color=style["color"], ms=9)
    for ax, keys in ((left, ["parameters"]), (right, ["energy_mj", "energy_with_decoding_mj"])):
        seen = pd.Series([float(getattr(run.summary, key)) for run in runs for key in keys])
        if (seen > 0).all():
            log_axis(ax, "x", seen)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.set(xlabel="parameters (log)")
    right.set(xlabel="energy per image in mJ, hollow: with building W (log)")
    left.set_ylabel("test accuracy (%)")
    headline(figure, left, "Accuracy over size")
    right.set_title("Accuracy over energy")
    return figure, f"Test accuracy of {len(runs)} runs over parameters and energy."


@svg
def training(runs: Sequence[Run]) -> tuple[Figure, str]:
    """Accuracy on training and, where a run kept them, on held-out images, and training loss, by epoch."""
    panels = {"train_accuracy": "Training images: accuracy (%)", "val_accuracy": "Held-out images: accuracy (%)"}
    panels |= {"train_loss": "Training loss"}
    shown = [column for column in panels if any(column in run.tables["history"] for run in runs)]
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axes = figure.subplots(1, len(shown))
    for ax, column in zip(axes, shown, strict=True):
        for run, style in looks(runs):
            history = run.tables["history"]
            if column in history:
                scale, every = 100 if "accuracy" in column else 1, max(1, len(history) // 6)
                ax.plot(history["epoch"], scale * history[column], **style, lw=1.6, ms=4.5, markevery=every)
        ax.set(xlabel="epoch", title=panels[column])
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4)
    return figure, f"Accuracy and loss of {len(runs)} runs by epoch."


@svg
def wiring(runs: Sequence[Run]) -> tuple[Figure, str]:
    """The σ's of the winners as multiples of the analytic ones, by encoding."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    ax, names, factors = figure.subplots(), pd.Series(dtype=str), [1.0]
    ax.axhline(1, color=INK, lw=1)
    drawn = [(sigmas, style) for run, style in looks(runs) if len(sigmas := run.sigmas().dropna())]
    for place, (sigmas, style) in enumerate(drawn):
        x = np.arange(len(sigmas)) + 0.5 * ((place + 1) / (len(drawn) + 1) - 0.5)
        ax.plot(x, sigmas["factor"], **style, ms=5, lw=0.8)
        names = max(names, sigmas["encoding"], key=len)
        factors += list(sigmas["factor"])
    log_axis(ax, "y", pd.Series(factors))
    step = 1 + len(names) // 40
    ax.set_xticks(np.arange(len(names))[::step], names.iloc[::step], fontsize=7.5)
    ax.grid(axis="x", visible=False)
    ax.set_ylabel("σ / analytic σ (log)")
    headline(figure, ax, "The wiring against the analytic one")
    return figure, f"Standard deviations of the wiring of {len(drawn)} runs, divided by the analytic ones."
