"""Tables as CSV, without pandas, whose import takes longer than a small table is worth."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, object]], columns_of_none: Iterable[str] = ()) -> str:
    """One line per row below the keys in order of first appearance. None, NaN and missing keys are empty cells.

    Without rows, ``columns_of_none`` is all that the table has. Texts are ``escaped``.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row) or columns_of_none)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [escaped(cell) if isinstance(cell, str) else cell for cell in map(row.get, columns)]
        writer.writerow([cell if cell == cell else None for cell in cells])  # NaN is not equal to itself
    return text.getvalue()


def escaped(text: str) -> str:
    """``text`` with a quote before it where a spreadsheet would run it as a formula, as OWASP advises."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def unescaped(text: str) -> str:
    """The text of which ``text`` is the ``escaped`` form."""
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text
