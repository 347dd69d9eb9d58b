"""The page and the table of a comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Column, Table
from rich.text import Text

from gee_core.config import Shape
from pipelines.commands.compare.figures import draw, looks
from pipelines.commands.compare.runs import Run, differing
from pipelines.figures.genes import symbol
from pipelines.reporting.page import TITLES, environment, unescaped
from pipelines.reporting.summary import energy, number, percent

COLUMNS = {
    "test_accuracy": ("accuracy", percent, max),
    "noise_accuracy": ("at r = 0.5", percent, max),
    "parameters": ("parameters", "{:,}".format, min),
    "energy_mj": ("energy", energy, min),
    "energy_with_decoding_mj": ("with W", energy, min),
    "spikes_per_image": ("spikes", "{:,.0f}".format, min),
}
"""Of the table of results: header, how the number is shown, and which of the runs' numbers is the best."""


COMPARABLE = {"test_accuracy": ("dataset",), "noise_accuracy": ("dataset", "noise_domain")}
"""What has to be the same in all runs for one of them to be the best."""


def results(runs: Sequence[Run]) -> list[list[tuple[str, bool]]]:
    """Every run's numbers in order of COLUMNS, as text, and whether it is the best of the runs (not if all are equal)."""
    return [list(row) for row in zip(*(_column(runs, key) for key in COLUMNS), strict=True)]


def _column(runs: Sequence[Run], key: str) -> list[tuple[str, bool]]:
    _, show, best_of = COLUMNS[key]
    values = [getattr(run.summary, key) for run in runs]
    alike = all(len({getattr(run.summary, name) for run in runs}) == 1 for name in COMPARABLE.get(key, ()))
    marked = alike and len(set(values)) > 1
    return [(show(value), marked and value == best_of(values)) for value in values]


def genes(runs: Sequence[Run]) -> dict[str, list[str]]:
    """σ_O, the geometric mean of the other σ's, and the genes of shape that are not neutral somewhere, as text by symbol."""
    sigmas = [run.sigmas()["sigma"].to_numpy(float) for run in runs]
    rows = {"σ_O": [number(sigma[0]) if len(sigma) else "–" for sigma in sigmas]}
    rows["σ_X, geometric mean"] = [number(np.exp(np.log(sigma[1:]).mean())) if len(sigma) else "–" for sigma in sigmas]
    neutral = Shape().model_dump()
    for gene in neutral:
        if any(run.shape.get(gene, neutral[gene]) != neutral[gene] for run in runs):
            rows[symbol(gene)] = [number(run.shape.get(gene)) for run in runs]
    return rows if any(run.winner for run in runs) else {}


def noise(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Mean accuracies under noise as text, by its strength r."""
    means = [run.tables["noise"].groupby("r")["accuracy"].mean() for run in runs]
    strengths = sorted({r for mean in means for r in mean.index})
    return {f"{r:g}": [percent(mean.get(r), 1) for mean in means] for r in strengths}


def terminal_tables(runs: Sequence[Run]) -> list[Table]:
    """For a terminal: every run's numbers, the best in bold; and its params that differ from those of the first."""
    numbers = Table("run", *(Column(header, justify="right") for header, _, _ in COLUMNS.values()))
    params = Table("run", f"params, where they differ from {runs[0].name}")
    for run, row in zip(runs, results(runs), strict=True):
        numbers.add_row(Text(run.name), *(Text(text, style="bold green" if best else "") for text, best in row))
    changes = differing(runs)
    for i, run in enumerate(runs[1:], 1):
        told = [f"{key} {values[0]} → {values[i]}" for key, values in changes.items() if values[i] != values[0]]
        params.add_row(Text(run.name), Text(("\n".join(told) or "none") if run.params else "its folder has no params.yaml"))
    return [numbers, params]


def render(runs: Sequence[Run]) -> str:
    """The page as HTML."""
    datasets = dict.fromkeys(TITLES.get(run.summary.dataset, run.summary.dataset) for run in runs)
    return (
        environment(Path(__file__).parent / "templates")
        .get_template("compare.html")
        .render(
            runs=[(run, look["color"]) for run, look in looks(runs)],
            headers=[header for header, _, _ in COLUMNS.values()],
            results=results(runs),
            datasets=list(datasets),
            domains=sorted({run.summary.noise_domain for run in runs}),
            changes=differing(runs),
            genes=genes(runs),
            noise=noise(runs),
            svg=unescaped(draw(runs)),
        )
    )
