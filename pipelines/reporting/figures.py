"""The report's figures, each drawn by a function of a table that returns SVG text; equal tables give equal bytes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.reporting.summary import energy, energy_unit
from pipelines.reporting.svg import GENETIC, INK, MARK, MUTED, OTHER, RAMP, headline, label, log_axis, panel, svg

MANY = 1500
"""More dots than this are drawn as one bitmap inside the SVG, to keep the page small."""


def common_fitness(candidates: pd.DataFrame) -> pd.Series:
    """Each candidate's fitness with the last generation's λ, so that all generations are comparable."""
    decay = candidates["lambda"]
    reward = ((candidates["L_ce"] - candidates["fitness"]) / decay.where(decay > 0)).fillna(0.0)
    return candidates["L_ce"] - decay.iloc[-1] * reward


def finished(candidates: pd.DataFrame) -> pd.Series:
    """Which candidates were trained for all epochs; the others were eliminated with the fitness of an earlier epoch."""
    return candidates["epochs"] == candidates.loc[candidates["fitness"].notna(), "epochs"].max()


def winner(candidates: pd.DataFrame) -> int:
    """The row of the best candidate; at least one has a fitness."""
    return common_fitness(candidates).where(finished(candidates)).idxmin()


@svg
def fitness_over_generations(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """All candidates as dots; best and median of each generation, without the eliminated ones, as lines."""
    figure, ax = panel(3.4)
    values, top = _dots_by_generation(ax, candidates, common_fitness(candidates))
    groups = values.where(finished(candidates)).groupby(candidates["generation"])
    ax.plot(groups.median().clip(upper=top), color=MUTED, lw=1.4, ls=(0, (4, 3)), marker=".", label="median")
    ax.plot(groups.min().clip(upper=top), color=MARK, marker="o", ms=5, label="best of its generation")
    ax.set(xlabel="generation", ylabel="fitness F (lower is better)")
    best = groups.min().dropna()
    title = "No candidate succeeded" if best.empty else f"Best fitness {best.iloc[0]:.3f}"
    title += f" → {best.iloc[-1]:.3f} over {len(best)} generations" if len(best) > 1 else ""
    headline(figure, ax, title)
    return figure, f"Fitness of {len(candidates)} candidates by generation. {title}."


@svg
def components(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """L_ce, R_T and R_S of every candidate, by generation."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    best = winner(candidates) if candidates["L_ce"].notna().any() else None
    for ax, column, title in zip(axes, ["L_ce", "R_T", "R_S"], ["L_ce, loss", "R_T, dynamics", "R_S, entropy"], strict=True):
        values, top = _dots_by_generation(ax, candidates, candidates[column])
        if best is not None:
            x = _spread(candidates)[best]
            ax.plot(x, min(values[best], top), "o", mfc="none", mec=MARK, mew=2, ms=9, label="winner")
        ax.set(xlabel="generation", title=title)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.tick_params(axis="y", labelsize=8)
    if best is not None:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend([handles[-1]], [labels[-1]], loc="outside lower right")
    return figure, "Cross-entropy, temporal difference and spatial entropy of every candidate by generation."


@svg
def candidates_plane(candidates: pd.DataFrame) -> tuple[Figure, str]:
    """The candidates in the plane of σ_X (geometric mean of σ_0 … σ_L) and σ_O, coloured by proxy accuracy; Fig. 4."""
    figure, ax = panel(3.4)
    sigma_X = np.exp(np.log(candidates.filter(regex=r"^sigma_\d+$")).mean(axis=1))
    sigma_O, accuracy = candidates["sigma_O"], 100 * candidates["proxy_accuracy"]
    failed = accuracy.isna()
    if failed.any():
        ax.plot(sigma_X[failed], sigma_O[failed], "x", color=MUTED, ms=6, label="failed", rasterized=failed.sum() > MANY)
    ok = accuracy.sort_values(na_position="first").index[failed.sum() :]  # the best drawn last, on top
    if len(ok):
        look = {"s": 8, "lw": 0, "rasterized": True} if len(ok) > MANY else {"s": 46, "lw": 0.6, "edgecolors": INK}
        dots = ax.scatter(sigma_X[ok], sigma_O[ok], c=accuracy[ok], cmap=RAMP, **look)
        figure.colorbar(dots, ax=ax, label="proxy accuracy (%)", pad=0.02, aspect=28).outline.set_visible(False)
        best = winner(candidates)
        ax.plot(sigma_X[best], sigma_O[best], "o", mfc="none", mec=MARK, mew=2, ms=12, label="winner")
    log_axis(ax, "x", sigma_X)
    log_axis(ax, "y", sigma_O)
    ax.set(xlabel="σ_X, geometric mean of σ_0 … σ_L (log)", ylabel="σ_O (log)")
    headline(figure, ax, "Which wiring learns fastest")
    return figure, f"{len(candidates)} candidates in the plane of two standard deviations, coloured by proxy accuracy."


@svg
def wiring_against_analytic(wiring: pd.DataFrame) -> tuple[Figure, str]:
    """The winner's σ's as multiples of the analytic ones: columns ``encoding``, ``sigma``, ``analytic``."""
    figure, ax = panel(3.4)
    factor = (wiring["sigma"] / wiring["analytic"]).to_numpy()
    x = np.arange(len(wiring))
    ax.axhline(1, color=INK, lw=1)
    ax.vlines(x, 1, factor, color=GENETIC, lw=2.2)
    ax.plot(x, factor, "o", color=GENETIC, ms=6)
    log_axis(ax, "y", pd.Series([1.0, *factor]))
    step = 1 + len(wiring) // 24
    ax.set_xticks(x[::step], wiring["encoding"].iloc[::step], fontsize=7)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel="σ / analytic σ (log)", title="The wiring against the analytic one")
    return figure, "Every standard deviation of the winner divided by the analytic one."


@svg
def training_curve(history: pd.DataFrame) -> tuple[Figure, str]:
    """Accuracy and loss over the epochs."""
    figure = Figure(figsize=(5.4, 4.1), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    dot = "o" if len(history) < 3 else None
    above.plot(history["epoch"], 100 * history["train_accuracy"], color=GENETIC, marker=dot, label="training images")
    last, name = history["train_accuracy"].iloc[-1], "training"
    if "val_accuracy" in history:
        above.plot(history["epoch"], 100 * history["val_accuracy"], color=OTHER, marker=dot, label="held-out images")
        last, name = history["val_accuracy"].iloc[-1], "held-out"
    below.plot(history["epoch"], history["train_loss"], color=GENETIC, marker=dot)
    above.set(ylabel="accuracy (%)")
    below.set(xlabel="epoch", ylabel="training loss")
    below.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    title = f"{100 * last:.1f} % {name} accuracy after {len(history)} epoch{'s'[: len(history) > 1]}"
    headline(figure, above, title)
    return figure, f"Accuracy and loss by epoch: {title}."


@svg
def energy_per_layer(layers: pd.DataFrame) -> tuple[Figure, str]:
    """Energy of computing and of building W, and the firing rates, of every layer, in order of execution.

    Computing and building have separate axes: with small images one would be invisible beside the other.
    """
    computing, building = layers["energy_mj"], layers["decode_energy_mj"].fillna(0.0)
    energies = [("Computing", computing, GENETIC)] + [("Building W", building, OTHER)] * bool(building.any())
    figure = Figure(figsize=(9.6, 1.6 + 0.235 * max(len(layers), 3)), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)
    axes = figure.subplots(1, len(energies) + 1, sharey=True)
    y = np.arange(len(layers))
    for ax, (name, mj, colour) in zip(axes, energies, strict=False):
        unit, scale = energy_unit(mj.max())
        ax.barh(y, scale * mj, color=colour, height=0.7)
        ax.set(xlabel=f"{unit} per image", title=f"{name}: {energy(mj.sum())}")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(y, [label(name) for name in layers["layer"]], fontsize=8.5, parse_math=False)
    axes[0].invert_yaxis()
    axes[-1].plot(100 * layers["input_rate"], y, "o", mfc="white", mec=MUTED, mew=1.6, ms=5.5, label="input of the layer")
    axes[-1].plot(100 * layers["output_rate"], y, "o", color=GENETIC, ms=5.5, label="output of its neurons")
    axes[-1].set(xlabel="firing rate (%)", title="Who fires", ylim=(len(layers) - 0.4, -0.6))
    axes[-1].set_xlim(left=0)
    figure.legend(loc="outside lower right", ncols=2)
    return figure, f"Energy and firing rate of {len(layers)} layers."


@svg
def accuracy_over_noise(noise: pd.DataFrame, clean_accuracy: float) -> tuple[Figure, str]:
    """Mean accuracy over the noise strength r, the range over the draws as a band, the clean accuracy as a line."""
    figure, ax = panel(3.5)
    by_r = 100 * noise.groupby("r")["accuracy"].agg(["mean", "min", "max"])
    ax.axhline(100 * clean_accuracy, color=MUTED, lw=1.4, ls=(0, (4, 3)), label="clean images")
    ax.fill_between(by_r.index, by_r["min"], by_r["max"], color=GENETIC, alpha=0.2, lw=0, label="range over the draws")
    ax.plot(by_r["mean"], color=GENETIC, marker="o", ms=4.5, label="noisy images, mean")
    title = "Accuracy under noise"
    if 0.5 in by_r.index:
        at_half = by_r.loc[0.5, "mean"]
        ax.plot(0.5, at_half, "o", mfc="none", mec=MARK, mew=2, ms=11)
        title = f"{at_half:.1f} % at r = 0.5, {100 * clean_accuracy:.1f} % clean"
    ax.set(xlabel="noise strength r (noise norm / image norm)", ylabel="test accuracy (%)", ylim=(0, 102))
    headline(figure, ax, title)
    return figure, f"Test accuracy over noise strength: {title}."


@svg
def confusion_matrix(confusion: pd.DataFrame, class_names: Sequence[str]) -> tuple[Figure, str]:
    """Share of every actual class (row) that was predicted as each class (column); columns ``actual``, ``predicted``."""
    n = len(class_names)
    counts = confusion_counts(confusion, class_names)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rare_visible = PowerNorm(0.5, vmin=0, vmax=100)
    figure, ax = panel(4.6)
    if n <= 40:
        image = ax.pcolormesh(share, cmap=RAMP, norm=rare_visible, edgecolors="white", lw=0.6)
    else:
        image = ax.imshow(share, cmap=RAMP, norm=rare_visible, interpolation="none", extent=(0, n, n, 0))
    ax.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xlabel="predicted", ylabel="actual")
    ax.grid(visible=False)
    if n <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if share[row, column] > 25 else INK
            shown = f"{share[row, column]:.0f}"
            ax.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=ink, fontsize=8 if n <= 12 else 6)
    step = 1 + (n - 1) // 25
    ticks = np.arange(0, n, step)
    names = [label(class_names[i]) for i in ticks]
    small = {"fontsize": 8 if n <= 12 else 6.5, "parse_math": False}
    rotation = 90 if max(map(len, names)) > 2 and n > 4 else 0
    ax.set_xticks(ticks + 0.5, names, rotation=rotation, **small)
    ax.set_yticks(ticks + 0.5, names, **small)
    figure.colorbar(image, ax=ax, label="share of the actual class (%)", shrink=0.8, aspect=28).outline.set_visible(False)
    ax.set_title("What is taken for what")
    return figure, f"Confusion matrix of {n} classes, rows normalised."


def confusion_counts(confusion: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Number of test images by actual (row) and predicted (column) class, (K, K)."""
    index = pd.Index(class_names)
    counts = np.zeros((len(index), len(index)), dtype=np.int64)
    np.add.at(counts, (index.get_indexer(confusion["actual"]), index.get_indexer(confusion["predicted"])), 1)
    return counts


def _spread(candidates: pd.DataFrame) -> pd.Series:
    """Generation plus a small offset by index, so that equal values do not overlap."""
    last = candidates.groupby("generation")["index"].transform("max").clip(lower=1)
    offset = candidates["index"] / last - 0.5
    return candidates["generation"] + 0.4 * offset.where(last > 1, 0.0)


def _dots_by_generation(ax: Axes, candidates: pd.DataFrame, values: pd.Series) -> tuple[pd.Series, float]:
    """Draw ``values`` by generation; returns them and the limit above which a dot is drawn at the upper edge."""
    x, ok = _spread(candidates), values.dropna()
    top = np.inf
    if len(ok):
        low, high = ok.quantile([0.05, 0.75])
        top = max(high + 2 * (high - low), ok.min())
    many = len(values) > MANY
    inside, outside = ok[ok <= top], ok[ok > top]
    dot = {"alpha": 0.2, "ms": 2.5} if many else {"alpha": 0.45, "ms": 5}
    ax.plot(x[inside.index], inside, "o", color=GENETIC, mew=0, label="candidate", rasterized=many, **dot)
    if len(outside):
        rim = np.full(len(outside), top)
        ax.plot(x[outside.index], rim, "^", color=GENETIC, alpha=0.6, mew=0, ms=6, label="far above", rasterized=many)
    failed = values.index[values.isna()]
    if len(failed):
        rim = {"transform": ax.get_xaxis_transform(), "rasterized": many}
        ax.plot(x[failed], np.full(len(failed), 0.98), "x", color=MUTED, ms=6, label="failed", **rim)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    ax.set_xlim(-0.5, candidates["generation"].max() + 0.5)
    return values, top
