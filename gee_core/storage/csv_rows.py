"""Tables as CSV, without pandas, whose import takes longer than a small table is worth."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """One line per row below the keys in order of first appearance; None, NaN and missing keys are empty cells.

    The text is that of ``pandas.DataFrame(rows).to_csv(index=False)`` unless a column mixes whole numbers with floats or empty
    cells: pandas turns those numbers into floats, here they stay whole.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return value if value == value else None
