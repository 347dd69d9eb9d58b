"""Draws the tables of README and docs, and the figure of the results, from data/*.csv: `python docs/results/draw_tables.py`.

The text below each mark in a page is rewritten.

A row of a file is the value of one seed, or a printed mean with its spread and n. The columns in `OWN` say what it is and
where it comes from. All other columns name the row of the table. A row whose `shown` is "no" stays in the file alone.
"""

import csv
import re
from decimal import Decimal
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from pipelines.studies.figures import scatter

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
OWN = ("column", "seed", "value", "spread", "n", "shown", "lr", "factor", "commit", "cpu", "command")
TABLE = re.compile(r"(<!-- table: (\S*data/\S+\.csv) -->\n)(?:\n\|.*?\]\(\2\)\n)?", re.DOTALL)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cell(rows: list[dict[str, str]]) -> str:
    """Mean ± sample standard deviation of the seeds' values, or a single value with the spread that its file states."""
    values = [Decimal(row["value"]) for row in rows]
    if len(values) > 1:
        places = max(-value.as_tuple().exponent for value in values)
        return f"{mean(values):,.{places}f} ± {stdev(values):,.{places}f}"
    spread = rows[0].get("spread", "")
    return f"{values[0]:,}" + (f" ({spread})" if " " in spread else f" ± {spread}" if spread else "")


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def table(page: Path, link: str) -> str:
    """The table of a file that a page links: a line per name, a column per value of `column`, then n and the link."""
    rows = [row for row in read(page.parent / link) if row.get("shown") != "no"]
    names = [key for key in rows[0] if key not in OWN]
    columns = list(dict.fromkeys(row["column"] for row in rows))
    cells: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in names), {}).setdefault(row["column"], []).append(row)
    lines = [line([*names, *columns]), "|" + "---|" * (len(names) + len(columns)) + "\n"]
    for name, values in cells.items():
        lines.append(line([*name, *(cell(values[column]) if column in values else "" for column in columns)]))
    ns = {int(values[0].get("n") or len(values)) for by_column in cells.values() for values in by_column.values()}
    n = f"{min(ns)}" if len(ns) == 1 else f"{min(ns)} to {max(ns)}"
    return "".join(lines) + f"\nn = {n}, [{Path(link).name}]({link})\n"


def draw(page: Path) -> str:
    """The text of a page with its tables drawn anew."""
    return TABLE.sub(lambda found: f"{found[1]}\n{table(page, found[2])}", page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """The pages that may have tables."""
    return [ROOT / "README.md", *sorted(FOLDER.parent.rglob("*.md"))]


def headline() -> str:
    """The figure headline-1-scatter.svg."""
    rows = [row for row in read(FOLDER / "data/headline.csv") if row["column"] == "5 epochs, %"]
    sizes, percentages = ([float(row[name].replace(",", "")) for row in rows] for name in ("parameters", "value"))
    cells = pd.DataFrame({"network": [row["network"] for row in rows], "parameters": sizes, "test_accuracy": percentages})
    cells["test_accuracy"] /= 100
    return scatter(cells, "parameters", "test_accuracy", ["network"], ["network"])


if __name__ == "__main__":
    (FOLDER / "headline-1-scatter.svg").write_text(headline(), encoding="utf-8")
    for path in pages():
        path.write_text(draw(path), encoding="utf-8")
