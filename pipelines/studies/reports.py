"""Writes a study's tables (rows of cells, then means over the seeds) and figures to reports/studies/NAME/."""

import html
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gee_core.data.meta import load_meta
from gee_core.storage.atomic_files import write_atomically, write_json
from pipelines.figures import studies as figures
from pipelines.figures.measurements import DEFECTS
from pipelines.project.paths import PAGE, REPORTS
from pipelines.reporting.page import fill_in
from pipelines.studies import kendall
from pipelines.studies.cell import Cell, CellResult, Request, distinct
from pipelines.studies.definition import MEASURED_ROWS, Plot, Study
from pipelines.studies.metrics import METRICS, RENAMED
from pipelines.studies.plan import GRID

log = logging.getLogger(__name__)

OUT = REPORTS / "studies"
Results = Mapping[str, CellResult]


@dataclass(frozen=True)
class TextTable:
    """A table as text."""

    title: str
    headers: list[str]
    rows: list[list[str]]


def write_reports(request: Request, study: Study, cells: list[Cell], results: Results) -> list[TextTable]:
    """Write cells.csv, table.csv, table.md, study.json, the figures and index.html, a page with them; returns the tables.

    Times are left out unless the study reports them, so that equal results give equal bytes.
    """
    out, columns = OUT / request.folder, study.columns()
    for old in [*out.glob("*.svg"), *out.glob("*.csv")]:
        old.unlink()
    shown = list(dict.fromkeys([*study.metrics, *(name for plot in study.plots for name in plot.measured())]))
    times = [name for name in ("evolve_seconds", "train_seconds") if name not in shown]
    frame = cells_frame(cells, results).drop(columns=times, errors="ignore")
    write_atomically(out / "cells.csv", frame.to_csv(index=False))
    grid = frame[frame["part"] == GRID].dropna(axis="columns", how="all")
    grid = grid.assign(**{column: "" for column in columns if column not in grid})  # --only may leave out all labels of one
    tables = []
    if len(grid):
        table = with_published(aggregate(grid, columns, study.metrics), study)
        write_atomically(out / "table.csv", table.to_csv(index=False))
        tables.append(format_table(study.title, table, columns, study.metrics))
    if len(candidates := frame[frame["part"] != GRID]):
        tables += _write_kendall(out, candidates, cells)
    frames = {kind: _rows_of(kind, columns, cells, results) for kind in MEASURED_ROWS}
    rows = {kind: measured for kind, measured in frames.items() if len(measured)}
    if "hardware" in rows and any(plot.kind == "hardware" for plot in study.plots):
        tables.append(hardware_table(rows["hardware"], columns))
    write_atomically(out / "table.md", "\n".join([*map(markdown, tables), f"`{request.command()}`\n"]))
    about = _about(request, study, cells, results)
    write_json(out / "study.json", about)
    ok = grid[grid["status"] == "ok"] if len(grid) else grid
    missing = [name for name in shown if len(ok) and name not in grid and name not in rows]
    if missing:
        log.warning("left out, no cell has it: %s", ", ".join(missing))
    for number, plot in enumerate(study.plots, 1):
        if ok.empty or plot.measured().keys() & set(missing):
            continue
        drawn = rows.get(plot.kind, ok)
        if plot.kind in rows:
            write_atomically(out / f"{plot.kind}.csv", drawn.to_csv(index=False))
        for column, wanted in plot.where.items():
            drawn = drawn[drawn[column] == wanted]
        if len(drawn):  # else --only left out its cells, or all of them failed
            write_atomically(out / f"{number}-{plot.kind}.svg", _drawn(plot, study, drawn))
    svgs = {path.name: path.read_text(encoding="utf-8") for path in sorted(out.glob("*.svg"))}
    write_atomically(out / PAGE.name, fill_in("study.html", svgs, about=about, tables=tables))
    return tables


def _write_kendall(out: Path, candidates: pd.DataFrame, cells: list[Cell]) -> list[TextTable]:
    """Write the tables and the figure of the analysis; returns the tables."""
    cfg, of_ranking = next(cell.params.evolve for cell in cells if cell.part != GRID), [kendall.EPOCHS, kendall.FITNESS]
    numbers = [*kendall.OF_SCORE, "test_accuracy"]  # which no candidate has if all of them failed
    candidates = candidates.reindex(columns=dict.fromkeys([*candidates, *numbers]))
    correlations = kendall.rank_correlations(candidates, cfg)
    table = aggregate(correlations, of_ranking, list(kendall.OF_FITNESS))
    write_atomically(out / "kendall_seeds.csv", correlations.to_csv(index=False))
    write_atomically(out / "kendall.csv", table.to_csv(index=False))
    if (candidates["status"] == "ok").any():
        write_atomically(out / "kendall.svg", figures.fitness_against_accuracy(candidates, correlations))
    title = "Kendall's τ between a candidate's fitness after E epochs and its accuracy after full training"
    tables = [format_table(title, table, of_ranking, list(kendall.OF_FITNESS))]
    if kendall.TRAINING in candidates and len(repeated := kendall.reliability(candidates)):
        table = aggregate(repeated, [kendall.TRAININGS], list(kendall.OF_ACCURACY))
        write_atomically(out / "reliability.csv", repeated.to_csv(index=False))
        title = "How well a candidate's accuracy can be known: full trainings from fresh draws"
        tables.append(format_table(title, table, [kendall.TRAININGS], list(kendall.OF_ACCURACY)))
    return tables


def _drawn(plot: Plot, study: Study, rows: pd.DataFrame) -> str:
    y, labels = _axis(plot.y), study.columns()
    match plot.kind:
        case "bars":
            return figures.bars(rows, y, plot.group)
        case "line":
            return figures.line(rows, plot.x, y, plot.group)
        case "scatter":
            return figures.scatter(rows, _axis(str(plot.x)), y, plot.group, labels)
        case "noise":
            marked = ("clean_accuracy", "noise_accuracy")
            published = [
                (f"{' '.join(row.columns.values())}, {row.source}", [row.metrics.get(name) for name in marked])
                for row in study.published
                if row.metrics.keys() & set(marked)
            ]
            return figures.noise(rows, plot.group, labels, list(plot.where.values()), published)
        case "hardware":
            return figures.hardware(rows, plot.group, labels)
        case "layers":
            return figures.layers(rows, plot.group)


def _axis(metric: str) -> figures.Axis:
    return figures.Axis(metric, METRICS[metric].header, METRICS[metric].scale)


def _rows_of(kind: str, columns: list[str], cells: list[Cell], results: Results) -> pd.DataFrame:
    """The rows by layer, noise or defect of all cells, with their labels and `network_seed`."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        labels = dict.fromkeys(columns, "") | cell.columns | {"network_seed": cell.params.base.seed}
        measured: Any = results[cell.key].get(kind, []) if cell.part == GRID else []
        rows += [labels | row for row in measured]
    return pd.DataFrame(rows)


def _about(request: Request, study: Study, cells: list[Cell], results: Results) -> dict[str, Any]:
    metas = [load_meta(prepared) for prepared in dict.fromkeys(cell.prepared for cell in cells)]
    by_name = [(cell.name, results[cell.key]) for cell in distinct(cells)]
    return {
        "study": request.name,
        "title": study.title,
        "command": request.command(),
        "preset": request.preset or study.preset,
        "dataset": _one_or_all(meta.dataset for meta in metas),
        "network": _one_or_all(f"{cell.params.network.name} × {cell.params.network.width:g}" for cell in cells),
        "epochs": _one_or_all(cell.params.train.epochs for cell in cells),
        "images": {name: _one_or_all(getattr(meta, f"n_{name}") for meta in metas) for name in ("train", "holdout", "test")},
        "seeds": sorted({cell.params.base.seed for cell in cells}),
        "cells": len(by_name),
        "failed": [f"{name}: {result['status']}" for name, result in by_name if result["status"] != "ok"],
        "commits": sorted({result["commit"] or "" for _, result in by_name}),
    }


def _one_or_all(values: Iterable[str | int]) -> str | int | list[str | int]:
    """The value that is the same in all cells, or the distinct ones in order of appearance."""
    distinct_values = list(dict.fromkeys(values))
    return distinct_values[0] if len(distinct_values) == 1 else distinct_values


def cells_frame(cells: list[Cell], results: Results) -> pd.DataFrame:
    """One row per cell: `part`, its labels, `seed`, `status`, its numbers (none in the place of a label), `key`, `commit`."""
    labels = list(dict.fromkeys(column for cell in cells for column in cell.columns))
    rows = []
    for cell in cells:
        result = results[cell.key]
        numbers = {RENAMED.get(name, name): number for name, number in result["metrics"].items()}
        if "parameters" in numbers:
            numbers["parameter_ratio"] = numbers["parameters"] / cell.full_parameters
        row = {"part": cell.part} | cell.columns | {"seed": cell.params.base.seed, "status": result["status"]}
        rows.append(row | {name: number for name, number in numbers.items() if name not in labels})
    frame = pd.DataFrame(rows)
    frame[labels] = frame[labels].fillna("")
    return frame.assign(key=[cell.key for cell in cells], commit=[results[cell.key]["commit"] for cell in cells])


def aggregate(frame: pd.DataFrame, columns: list[str], metrics: list[str]) -> pd.DataFrame:
    """One row per combination of labels, in order: each metric's mean, its sample standard deviation as `METRIC_sd`, `n` that
    succeeded, `failed`, `source`; and as `METRIC_n` how many have a metric that some of the n lack."""
    rows = []
    for labels, group in frame.groupby(columns, sort=False, dropna=False):
        ok = group[group["status"] == "ok"]
        row = dict(zip(columns, labels, strict=True))
        for metric in metrics:
            values = ok[metric] if metric in ok else pd.Series(dtype=float)
            row |= {metric: values.mean(), f"{metric}_sd": values.std(ddof=1), f"{metric}_n": values.count()}
        rows.append(row | {"n": len(ok), "failed": len(group) - len(ok), "source": "ours"})
    table = pd.DataFrame(rows)
    whole = [f"{name}_n" for name in metrics if (table[f"{name}_n"].eq(table["n"]) | table[f"{name}_n"].eq(0)).all()]
    return table.drop(columns=whole)


def with_published(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table with the study's published rows below; their `source` says where they were published."""
    if not study.published:
        return table
    rows = table.to_dict("records")
    for row in study.published:
        spread = {f"{name}_sd": value for name, value in row.sd.items()}
        labels = dict.fromkeys(study.columns(), "") | row.columns
        rows.append(labels | row.metrics | spread | {"source": f"published: {row.source}"})
    counts = {"n", "failed", *(f"{metric}_n" for metric in study.metrics)} & set(table)
    return pd.DataFrame(rows, columns=table.columns).astype(dict.fromkeys(counts, "Int64"))


def format_table(title: str, table: pd.DataFrame, columns: list[str], metrics: list[str]) -> TextTable:
    """``table`` for people: labels, then means with their spreads; metrics without any value are left out."""
    kept = [metric for metric in metrics if table[metric].notna().any()]
    marks = ["n", *(["failed"] if table["failed"].fillna(0).any() else []), "source"]
    short = [column.rpartition(".")[2] for column in columns]
    names = [key if short.count(key) == 1 else column for key, column in zip(short, columns, strict=True)]
    headers = [*names, *(METRICS[metric].header for metric in kept), *marks]
    rows = []
    for _, row in table.iterrows():
        numbers = [METRICS[metric].format(row[metric], row[f"{metric}_sd"]) + _own_n(row, metric) for metric in kept]
        labels = [str(row[column]) for column in columns]
        if row["source"] != "ours":  # the column of that name is the last, which a narrow terminal wraps
            labels[0] = f"{labels[0]} (published)".lstrip()
        ends = ["" if pd.isna(row[mark]) else str(row[mark]) for mark in marks]
        rows.append([*labels, *numbers, *ends])
    return TextTable(title, headers, rows)


def _own_n(row: pd.Series, metric: str) -> str:
    """How many cells the mean of ``metric`` is of, if some of the row's lack it."""
    n = row.get(f"{metric}_n")
    return "" if pd.isna(n) or n in (0, row["n"]) else f" (n = {n})"


def hardware_table(accuracies: pd.DataFrame, columns: list[str]) -> TextTable:
    """Accuracy by defect and strength, a column per combination of labels: `defect_curve`, mean ± sd."""
    groups = {", ".join(map(str, labels)): rows for labels, rows in accuracies.groupby(columns, sort=False)}
    rows = []
    for domain, (title, unit) in DEFECTS.items():
        curves = [figures.defect_curve(group[group["domain"] == domain], columns) for group in groups.values()]
        for strength in sorted({strength for curve in curves for strength in curve.index}):
            points = [curve.reindex([strength]).iloc[0] for curve in curves]
            values = [METRICS["test_accuracy"].format(point["mean"], point["sd"]) for point in points]
            rows.append([title, f"{strength:g}", unit, *values, "ours"])
    headers = ["defect", "strength", "of it", *groups, "source"]
    return TextTable("Test accuracy (%) under the defects of hardware", headers, rows)


def markdown(table: TextTable) -> str:
    """``table`` under its title in Markdown, with aligned columns."""
    lines = [list(map(markdown_text, line)) for line in (table.headers, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (map(str.ljust, line, widths) for line in lines)
    return f"## {markdown_text(table.title)}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in padded)


def markdown_text(text: str) -> str:
    """``text`` escaped for a heading or a cell, on one line."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(html.escape(shown, quote=False).replace("|", "\\|").split())
