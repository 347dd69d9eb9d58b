"""Makes a study's tables: one row per cell, then means and standard deviations over the seeds, as data and as text."""

import html
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd
from rich.table import Table
from rich.text import Text

from pipelines.figures.hardware_defects import DEFECTS
from pipelines.figures.studies import defect_curve
from pipelines.studies.cell import Cell, CellResult
from pipelines.studies.definition import Study
from pipelines.studies.metrics import METRICS, named

OURS = "ours"
"""Source of rows that were measured here."""


@dataclass(frozen=True)
class TextTable:
    """A table as text."""

    title: str
    headers: list[str]
    rows: list[list[str]]


def cells_frame(cells: Collection[Cell], results: Mapping[str, CellResult]) -> pd.DataFrame:
    """One row per cell: `part`, its labels, `seed`, `status`, its numbers (none in the place of a label), `key`, `commit`."""
    labels = list(dict.fromkeys(column for cell in cells for column in cell.columns))
    rows = []
    for cell in cells:
        result = results[cell.key]
        numbers = named(result["metrics"])
        if "parameters" in numbers:
            numbers["parameter_ratio"] = numbers["parameters"] / cell.full_parameters
        row = {"part": cell.part} | cell.columns | {"seed": cell.params.base.seed, "status": result["status"]}
        row |= {name: number for name, number in numbers.items() if name not in labels}
        rows.append(row | {"key": cell.key, "commit": result["commit"]})
    frame = pd.DataFrame(rows)
    frame[labels] = frame[labels].fillna("")
    ends = ["key", "commit"]
    return frame[[*(column for column in frame if column not in ends), *ends]]


def aggregate(frame: pd.DataFrame, columns: list[str], metrics: list[str]) -> pd.DataFrame:
    """One row per combination of labels, in the study's order: each metric's mean, its sample standard deviation as
    `METRIC_sd` (NaN for one seed), `n` that succeeded, `failed`, `source`; and as `METRIC_n` how many have a
    metric that some of the n lack."""
    rows = []
    for labels, group in frame.groupby(columns, sort=False, dropna=False):
        ok = group[group["status"] == "ok"]
        row = dict(zip(columns, labels, strict=True))
        for metric in metrics:
            values = ok[metric] if metric in ok else pd.Series(dtype=float)
            row |= {metric: values.mean(), f"{metric}_sd": values.std(ddof=1), f"{metric}_n": values.count()}
        rows.append(row | {"n": len(ok), "failed": len(group) - len(ok), "source": OURS})
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
        ends = ["" if pd.isna(row[mark]) else str(row[mark]) for mark in marks]
        rows.append([*(str(row[column]) for column in columns), *numbers, *ends])
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
        curves = [defect_curve(group[group["domain"] == domain], columns) for group in groups.values()]
        for strength in sorted({strength for curve in curves for strength in curve.index}):
            found = [curve.loc[strength] if strength in curve.index else {"mean": math.nan, "sd": 0.0} for curve in curves]
            values = [METRICS["test_accuracy"].format(value["mean"], value["sd"]) for value in found]
            rows.append([title, f"{strength:g}", unit, *values, OURS])
    return TextTable(
        "Test accuracy (%) under the defects of hardware", ["defect", "strength", "of it", *groups, "source"], rows
    )


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join("| " + " | ".join(map(markdown_text, line)) + " |\n" for line in lines)


def markdown_text(text: str) -> str:
    """``text`` escaped for a heading or a cell, on one line."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").split())


def rich_table(table: TextTable) -> Table:
    """``table`` for a terminal, without empty columns, and without the source where all rows are ours."""
    shown = Table(title=Text(table.title), title_justify="left", title_style="bold")
    kept = [i for i in range(len(table.headers)) if any(row[i] not in ("", OURS) for row in table.rows)]
    for i in kept:
        shown.add_column(Text(table.headers[i]), min_width=max(len(word) for word in table.headers[i].split()))
    for row in table.rows:
        shown.add_row(*(Text(row[i]) for i in kept))
    return shown
