"""Writes a study's table (rows of cells, then means over the seeds) and figures to reports/studies/NAME/."""

import html
import itertools
import logging
from collections.abc import Mapping

import pandas as pd

from gee_core.storage.atomic_files import write_atomically
from pipelines.project.paths import REPORTS
from pipelines.studies.definition import ROW_COLUMNS, ROWS, Plot, Study
from pipelines.studies.figures import bars, line, scatter
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import Cell, CellResult, Request
from pipelines.studies.steps import ROWS_OF

log = logging.getLogger(__name__)

OUT = REPORTS / "studies"
Results = Mapping[str, CellResult]


def write_reports(request: Request, study: Study, cells: list[Cell], results: Results) -> str:
    """Write cells.csv, table.csv, table.md and the figures; returns the table in Markdown.

    Times are left out unless the study reports them, so that equal results give equal bytes.
    """
    out, columns, shown = OUT / request.folder, study.columns(), study.shown()
    for old in [*out.glob("*.svg"), *out.glob("*.csv")]:
        old.unlink()
    frame = make_frame(columns, cells, results)
    times = [name for name in ("evolve_seconds", "train_seconds") if name not in shown]
    frame = frame.drop(columns=times, errors="ignore")
    if missing := [name for name in shown if name not in frame]:
        log.warning("left out, no cell has it: %s", ", ".join(missing))
    table = add_published(aggregate(frame, columns, study.metrics), study)
    measured: dict[str, list[dict[str, object]]] = {kind: [] for kind in ROWS}
    for kind, cell in itertools.product(ROWS, cells):
        labels = dict.fromkeys(columns, "") | cell.columns | {"network_seed": cell.params.base.seed}
        path = cell.folder / ROWS_OF.format(kind)
        measured[kind] += [labels | row for row in pd.read_csv(path).to_dict("records")] if path.is_file() else []
    rows = {kind: pd.DataFrame(of_kind) for kind, of_kind in measured.items()}
    files = {"cells": frame, "table": table} | {kind: of_kind for kind, of_kind in rows.items() if len(of_kind)}
    for name, content in files.items():
        write_atomically(out / f"{name}.csv", content.to_csv(index=False))
    write_atomically(
        out / "table.md",
        text := f"{markdown(study.title, format_table(table, columns, study.metrics))}\n`{request.command()}`\n",
    )
    for number, plot in enumerate(study.plots, 1):
        if svg := _draw(plot, columns, rows[plot.rows] if plot.rows else frame):
            write_atomically(out / f"{number}-{plot.kind}.svg", svg)
    return text


def make_frame(columns: list[str], cells: list[Cell], results: Results) -> pd.DataFrame:
    """A row per cell: its labels, `seed`, `status`, its numbers (none in the place of a label), `key` and `commit`."""
    rows: list[dict[str, object]] = []
    for cell in cells:
        result = results[cell.key]
        labels, numbers = dict.fromkeys(columns, "") | cell.columns, dict(result.metrics)
        if "parameters" in numbers:
            numbers["parameter_ratio"] = numbers["parameters"] / cell.full_parameters
        rows.append(labels | {"seed": cell.params.base.seed, "status": result.status} | numbers | labels)
    ends = {"key": [cell.key for cell in cells], "commit": [results[cell.key].commit for cell in cells]}
    return pd.DataFrame(rows).assign(**ends)


def aggregate(frame: pd.DataFrame, columns: list[str], metrics: list[str]) -> pd.DataFrame:
    """One row per combination of labels, in order.

    It has the mean of each metric, its sample standard deviation as `METRIC_sd` and the number of values as `METRIC_n`, then
    `n` that succeeded, `failed`, and `source`.
    """
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *metrics])))
    numbers: dict[str, object] = {}
    for metric in metrics:
        numbers |= {metric: (metric, "mean"), f"{metric}_sd": (metric, "std"), f"{metric}_n": (metric, "count")}
    numbers |= {"n": ("status", lambda status: sum(status == "ok")), "failed": ("status", lambda status: sum(status != "ok"))}
    return frame.groupby(columns, sort=False).agg(**numbers).reset_index().assign(source="ours")


def add_published(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table with the study's published rows below; their `source` says where they were published."""
    rows = table.to_dict("records")
    for row in study.published:
        spread = {f"{name}_sd": value for name, value in row.sd.items()}
        labels = dict.fromkeys(study.columns(), "") | row.columns
        rows.append(labels | row.metrics | spread | {"source": f"published: {row.source}"})
    counts = ["n", "failed", *(f"{metric}_n" for metric in study.metrics)]
    return pd.DataFrame(rows, columns=table.columns).astype(dict.fromkeys(counts, "Int64"))


def format_table(table: pd.DataFrame, columns: list[str], metrics: list[str]) -> pd.DataFrame:
    """``table`` as text: labels, then means with their spreads; metrics without any value are left out."""
    kept = [metric for metric in metrics if table[metric].notna().any()]
    marks = ["n", *(["failed"] if table["failed"].fillna(0).any() else []), "source"]
    short = [column.rpartition(".")[2] for column in columns]
    names = [key if short.count(key) == 1 else column for key, column in zip(short, columns, strict=True)]
    rows = []
    for _, row in table.iterrows():
        numbers = []
        for metric in kept:
            n = row[f"{metric}_n"]  # is named where it is not that of the row
            of = "" if pd.isna(n) or n in (0, row["n"]) else f" (n = {n})"
            numbers.append(METRICS[metric].format(row[metric], row[f"{metric}_sd"]) + of)
        labels = [str(row[column]) for column in columns]
        if row["source"] != "ours":  # the column of that name is the last, which a narrow terminal wraps
            labels[0] = f"{labels[0]} (published)".lstrip()
        rows.append([*labels, *numbers, *("" if pd.isna(row[mark]) else str(row[mark]) for mark in marks)])
    return pd.DataFrame(rows, columns=[*names, *(METRICS[metric].header for metric in kept), *marks])


def _draw(plot: Plot, columns: list[str], frame: pd.DataFrame) -> str | None:
    """The figure of ``frame``; None where it has no such columns, or no rows with the plot's labels.

    Of rows, the draws of each network are averaged first: draws on one network say nothing about the next.
    """
    if plot.rows:
        frame = frame.rename(columns={"accuracy": "test_accuracy"})
        network = [name for name in dict.fromkeys([*columns, "network_seed", *ROW_COLUMNS]) if name in frame]
        frame = frame.groupby(network, sort=False, as_index=False).mean(numeric_only=True) if len(frame) else frame
    y, x = plot.y, str(plot.x)
    if not {*plot.columns(), y, *([x] if plot.kind == "scatter" else [])} <= set(frame):
        return None
    for column, wanted in plot.where.items():
        frame = frame[frame[column] == wanted]
    if frame[y].isna().all():  # --only left out its cells, or all of them failed
        return None
    match plot.kind:
        case "bars":
            return bars(frame, y, plot.group)
        case "line":
            return line(frame, x, y, plot.group)
        case "scatter":
            return scatter(frame, x, y, plot.group, columns)


def markdown(title: str, table: pd.DataFrame) -> str:
    """``table``, a text in each place, under its title in Markdown, with aligned columns."""
    escaped = [
        [html.escape(text, quote=False).replace("|", "\\|") for text in line]
        for line in ([title], table.columns, *table.to_numpy())
    ]
    [heading], *lines = [[" ".join(text.split()) for text in line] for line in escaped]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (map(str.ljust, line, widths) for line in lines)
    return f"## {heading}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in padded)
