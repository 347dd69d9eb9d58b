"""A study's numbers as tables: one row per cell, then mean and standard deviation over the seeds."""

import html
from collections.abc import Iterable

import pandas as pd
from rich.table import Table
from rich.text import Text

from pipelines.studies.definition import Study
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import Cell

MEASURED = "ours"
"""Source of rows that were measured here."""


def cells_frame(cells: Iterable[Cell], results: dict[str, dict]) -> pd.DataFrame:
    """One row per cell: `part`, its labels, `seed`, `status`, its numbers, `key`, `commit`."""
    rows = []
    for cell in cells:
        result = results[cell.key]
        numbers = dict(result["metrics"])
        if "parameters" in numbers:
            numbers["parameter_ratio"] = numbers["parameters"] / cell.full_parameters
        row = {"part": cell.part} | cell.columns | {"seed": cell.params.base.seed, "status": result["status"]}
        rows.append(row | numbers | {"key": cell.key, "commit": result["commit"]})
    frame = pd.DataFrame(rows)
    labels = list(dict.fromkeys(column for cell in cells for column in cell.columns))
    frame[labels] = frame[labels].fillna("")
    ends = ["key", "commit"]
    return frame[[*(column for column in frame if column not in ends), *ends]]


def aggregate(frame: pd.DataFrame, columns: list[str], metrics: list[str]) -> pd.DataFrame:
    """One row per combination of labels, in the study's order: each metric's mean, its sample standard deviation as
    `METRIC_sd` (NaN for one seed), `n` that succeeded, `failed`, `source`."""
    rows = []
    for labels, group in frame.groupby(columns, sort=False, dropna=False):
        ok = group[group["status"] == "ok"]
        row = dict(zip(columns, labels, strict=True))
        for metric in metrics:
            values = ok[metric] if metric in ok else pd.Series(dtype=float)
            row |= {metric: values.mean(), f"{metric}_sd": values.std(ddof=1)}
        rows.append(row | {"n": len(ok), "failed": len(group) - len(ok), "source": MEASURED})
    return pd.DataFrame(rows)


def with_published(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table with the study's published rows below, whose `source` says where they stand."""
    rows = []
    for row in study.published:
        numbers = {name: value for name, value in row.metrics.items() if name in study.metrics}
        spread = {f"{name}_sd": value for name, value in row.sd.items() if name in study.metrics}
        labels = {column: row.columns.get(column, "") for column in study.columns()}
        rows.append(labels | numbers | spread | {"source": f"published: {row.source}"})
    if not rows:
        return table
    published = pd.DataFrame(rows).reindex(columns=table.columns)
    joined = pd.DataFrame([*table.to_dict("records"), *published.to_dict("records")], columns=table.columns)
    return joined.astype({"n": "Int64", "failed": "Int64"})


def shown(table: pd.DataFrame, columns: list[str], metrics: list[str]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text for people: means with their spreads, without columns that are empty throughout."""
    kept = [metric for metric in metrics if table[metric].notna().any()]
    marks = ["n", *(["failed"] if table["failed"].fillna(0).any() else []), "source"]
    headers = [*(column.rpartition(".")[2] for column in columns), *(METRICS[metric].header for metric in kept), *marks]
    rows = []
    for _, row in table.iterrows():
        numbers = [METRICS[metric].format(_float(row[metric]), _float(row[f"{metric}_sd"])) for metric in kept]
        ends = ["" if pd.isna(row[mark]) else str(row[mark]) for mark in marks]
        rows.append([*(str(row[column]) for column in columns), *numbers, *ends])
    return headers, rows


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join("| " + " | ".join(map(markdown_text, line)) + " |\n" for line in lines)


def markdown_text(text: str) -> str:
    """``text`` as it is, in a heading or a cell: no HTML, no further cells, no further lines."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").split())


def rich_tables(title: str, headers: list[str], rows: list[list[str]]) -> list[Table]:
    """The same for a terminal: ours, then the published rows as a table of their own; without columns that are empty."""
    ours = [row[:-1] for row in rows if row[-1] == MEASURED]
    published = [[*row[:-1], row[-1].removeprefix("published: ")] for row in rows if row[-1] != MEASURED]
    tables = [_rich_table(title, headers[:-1], ours)]
    return [*tables, _rich_table("Published", headers, published)] if published else tables


def _rich_table(title: str, headers: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    kept = [i for i in range(len(headers)) if any(row[i] for row in rows)]
    for i in kept:
        table.add_column(Text(headers[i]), min_width=max(len(word) for word in headers[i].split()))
    for row in rows:
        table.add_row(*(Text(row[i]) for i in kept))
    return table


def _float(value) -> float:
    return float("nan") if pd.isna(value) else float(value)
