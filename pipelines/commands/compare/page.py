"""The page and the table of a comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from gee_core.config import Shape
from pipelines.commands.compare.figures import draw, looks
from pipelines.commands.compare.runs import Run, differing
from pipelines.reporting.page import TITLES, environment
from pipelines.reporting.summary import energy, number, percent
from pipelines.reporting.wiring import symbol

COLUMNS = {
    "test_accuracy": ("test accuracy", percent, max),
    "noise_accuracy": ("at noise r = 0.5", percent, max),
    "parameters": ("parameters", "{:,}".format, min),
    "energy_mj": ("energy", energy, min),
    "energy_with_decoding_mj": ("with building W", energy, min),
    "spikes_per_image": ("spikes per image", "{:,.0f}".format, min),
}
"""Of the table: header, how the number is shown, and which of the runs' numbers is the best."""


def results(runs: Sequence[Run]) -> list[list[tuple[str, bool]]]:
    """Every run's numbers in order of COLUMNS, as text, and whether it is the best of the runs (not if all are equal)."""
    comparable = {key: True for key in COLUMNS}
    comparable["test_accuracy"] = comparable["noise_accuracy"] = len({run.summary["dataset"] for run in runs}) == 1
    comparable["noise_accuracy"] &= len({run.summary["noise_domain"] for run in runs}) == 1
    values = {key: [run.summary[key] for run in runs] for key in COLUMNS}
    best = {
        key: best(values[key]) if comparable[key] and len(set(values[key])) > 1 else None
        for key, (_, _, best) in COLUMNS.items()
    }
    return [[(show(run.summary[key]), run.summary[key] == best[key]) for key, (_, show, _) in COLUMNS.items()] for run in runs]


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


def terminal_table(runs: Sequence[Run]) -> Table:
    """A row per run: its numbers, the best in bold, and its values of the params that differ."""
    table = Table("run")
    for header, _, _ in COLUMNS.values():
        table.add_column(header, justify="right")
    table.add_column("params that differ")
    changes = differing(runs)
    for i, (run, row) in enumerate(zip(runs, results(runs), strict=True)):
        cells = [Text(text, style="bold green" if best else "") for text, best in row]
        told = "\n".join(f"{key} = {values[i]}" for key, values in list(changes.items())[:8])
        more = f"\nand {len(changes) - 8} more, on the page" if len(changes) > 8 else ""
        table.add_row(Text(run.name), *cells, Text(told + more))
    return table


def render(runs: Sequence[Run]) -> str:
    """The page as HTML."""
    datasets = dict.fromkeys(TITLES.get(run.summary["dataset"], run.summary["dataset"]) for run in runs)
    return (
        environment(Path(__file__).parent / "templates")
        .get_template("compare.html")
        .render(
            runs=[(run, look["color"]) for run, look in looks(runs)],
            headers=[header for header, _, _ in COLUMNS.values()],
            results=results(runs),
            datasets=list(datasets),
            domains=sorted({run.summary["noise_domain"] for run in runs}),
            changes=differing(runs),
            genes=genes(runs),
            svg={name: Markup(svg) for name, svg in draw(runs).items()},
        )
    )
