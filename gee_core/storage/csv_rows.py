"""Tables as CSV, without pandas, whose import takes longer than a small table is worth."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gee_core.storage.atomic_files import write_atomically, writing


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


def append_row(path: Path, row: Mapping[str, object], first: bool) -> None:
    """Append ``row`` to the table in ``path``, whose rows all have the same keys. The ``first`` row begins it anew."""
    text = csv_text([row])
    if first:
        write_atomically(path, text)
        return
    with writing(path), path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.partition("\n")[2])


def escaped(text: str) -> str:
    """``text`` with a quote before it where a spreadsheet would run it as a formula, as OWASP advises."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def unescaped(text: str) -> str:
    """The text of which ``text`` is the ``escaped`` form."""
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text
