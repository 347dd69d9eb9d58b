"""Writes the tables and figures of a study to reports/studies/NAME/."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from gee_core.data.meta import load_meta
from gee_core.storage.atomic_files import write_atomically, write_json
from pipelines.figures import studies as figures
from pipelines.project.paths import REPORTS
from pipelines.studies.cell import Cell, CellResult, Request, distinct
from pipelines.studies.definition import MEASURED_ROWS, Plot, Study
from pipelines.studies.kendall import FITNESS, OF_ACCURACY, OF_FITNESS, OF_SCORE, TRAININGS, rank_correlations, reliability
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import EPOCHS, GRID, TRAINING
from pipelines.studies.tables import (
    TextTable,
    aggregate,
    cells_frame,
    format_table,
    hardware_table,
    markdown,
    markdown_text,
    with_published,
)

OUT = REPORTS / "studies"
Results = dict[str, CellResult]


def write_reports(request: Request, study: Study, cells: list[Cell], results: Results) -> tuple[list[TextTable], list[str]]:
    """Write cells.csv, table.csv, table.md, study.json and the figures.

    Times are left out unless the study reports them, so that equal results give equal bytes.

    Returns:
        The tables, and the metrics and rows that should be shown and that no cell has.
    """
    out, columns = OUT / request.name, study.columns()
    for old in [*out.glob("*.svg"), *out.glob("*.csv")]:
        old.unlink()
    shown = list(dict.fromkeys([*study.metrics, *(name for plot in study.plots for name in plot.measured())]))
    times = [name for name in ("evolve_seconds", "train_seconds") if name not in shown]
    frame = cells_frame(cells, results).drop(columns=times, errors="ignore")
    write_atomically(out / "cells.csv", frame.to_csv(index=False))
    grid = frame[frame["part"] == GRID].dropna(axis="columns", how="all")
    grid = grid.assign(**{column: "" for column in columns if column not in grid})  # --only may leave out all labels of one
    tables, left_out = [], []
    if len(grid):
        table = with_published(aggregate(grid, columns, study.metrics), study)
        write_atomically(out / "table.csv", table.to_csv(index=False))
        tables.append(format_table(study.title, table, columns, study.metrics))
    if len(candidates := frame[frame["part"] != GRID]):
        tables += _write_kendall(out, candidates, cells)
    rows = {kind: found for kind in MEASURED_ROWS if len(found := _rows_of(kind, columns, cells, results))}
    if "hardware" in rows and any(plot.kind == "hardware" for plot in study.plots):
        tables.append(hardware_table(rows["hardware"], columns))
    text = "\n".join(f"## {markdown_text(part.title)}\n\n{markdown(part.headers, part.rows)}" for part in tables)
    write_atomically(out / "table.md", f"{text}\n`{request.command()}`\n")
    write_json(out / "study.json", _about(request, study, cells, results))
    if len(grid) and (grid["status"] == "ok").any():
        left_out = [name for name in shown if name not in grid and name not in rows]
        for number, plot in enumerate(study.plots, 1):
            if plot.measured().keys().isdisjoint(left_out):
                _write_figure(out, number, plot, study, rows.get(plot.kind, grid[grid["status"] == "ok"]))
    return tables, left_out


def _write_kendall(out: Path, candidates: pd.DataFrame, cells: list[Cell]) -> list[TextTable]:
    cfg = next(cell.params.evolve for cell in cells if cell.part != GRID)
    candidates = candidates.reindex(columns=dict.fromkeys([*candidates, *OF_SCORE, "test_accuracy"]))  # if all of them failed
    correlations = rank_correlations(candidates, cfg)
    table = aggregate(correlations, [EPOCHS, FITNESS], list(OF_FITNESS))
    write_atomically(out / "kendall_seeds.csv", correlations.to_csv(index=False))
    write_atomically(out / "kendall.csv", table.to_csv(index=False))
    if (candidates["status"] == "ok").any():
        write_atomically(out / "kendall.svg", figures.fitness_against_accuracy(candidates, correlations))
    title = "Kendall's τ between a candidate's fitness after E epochs and its accuracy after full training"
    tables = [format_table(title, table, [EPOCHS, FITNESS], list(OF_FITNESS))]
    if TRAINING in candidates and len(repeated := reliability(candidates)):
        table = aggregate(repeated, [TRAININGS], list(OF_ACCURACY))
        write_atomically(out / "reliability.csv", repeated.to_csv(index=False))
        title = "How well a candidate's accuracy can be known: full trainings from fresh draws"
        tables.append(format_table(title, table, [TRAININGS], list(OF_ACCURACY)))
    return tables


def _write_figure(out: Path, number: int, plot: Plot, study: Study, rows: pd.DataFrame) -> None:
    if plot.kind in MEASURED_ROWS:
        write_atomically(out / f"{plot.kind}.csv", rows.to_csv(index=False))
    for column, wanted in plot.where.items():
        rows = rows[rows[column] == wanted]
    if len(rows):  # else --only left out its cells, or all of them failed
        write_atomically(out / f"{number}-{plot.kind}.svg", _drawn(plot, study, rows))


def _drawn(plot: Plot, study: Study, rows: pd.DataFrame) -> str:
    y, labels = _axis(plot.y), study.columns()
    match plot.kind:
        case "line":
            return figures.line(rows, plot.x, y, plot.group)
        case "scatter":
            return figures.scatter(rows, _axis(plot.x or ""), y, plot.group, labels)
        case "noise":
            values = ("clean_accuracy", "noise_accuracy")
            published = [
                (f"{' '.join(row.columns.values())}, {row.source}", [row.metrics.get(name) for name in values])
                for row in study.published
                if any(name in row.metrics for name in values)
            ]
            return figures.noise(rows, plot.group, labels, list(plot.where.values()), published)
        case "hardware":
            return figures.hardware(rows, plot.group, labels)
        case "layers":
            return figures.layers(rows, plot.group)
    return figures.bars(rows, y, plot.group)


def _axis(metric: str) -> figures.Axis:
    return figures.Axis(metric, METRICS[metric].header, METRICS[metric].scale)


def _rows_of(kind: str, columns: list[str], cells: list[Cell], results: Results) -> pd.DataFrame:
    """The rows by layer, noise or defect of all cells, with their labels and `network_seed`."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if cell.part == GRID:
            own = dict.fromkeys(columns, "") | cell.columns | {"network_seed": cell.params.base.seed}
            found: Any = results[cell.key].get(kind, [])
            rows += [own | row for row in found]
    return pd.DataFrame(rows)


def _about(request: Request, study: Study, cells: list[Cell], results: Results) -> dict[str, Any]:
    metas = [load_meta(prepared) for prepared in dict.fromkeys(cell.prepared for cell in cells)]
    found = [(cell.name, results[cell.key]) for cell in distinct(cells)]
    return {
        "study": request.name,
        "title": study.title,
        "command": request.command(),
        "preset": request.preset or study.preset,
        "dataset": _one_or_all(meta.dataset for meta in metas),
        "images": {
            "train": _one_or_all(meta.n_train for meta in metas),
            "holdout": _one_or_all(meta.n_holdout for meta in metas),
            "test": _one_or_all(meta.n_test for meta in metas),
        },
        "seeds": sorted({cell.params.base.seed for cell in cells}),
        "cells": len(found),
        "failed": [f"{name}: {result['status']}" for name, result in found if result["status"] != "ok"],
        "commits": sorted({result["commit"] or "" for _, result in found}),
    }


def _one_or_all(values: Iterable[str | int]) -> str | int | list[str | int]:
    """The value that is the same in all cells, or the distinct ones in order of appearance."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found
