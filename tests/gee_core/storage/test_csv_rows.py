import csv
import math

import pandas as pd
import pytest

from gee_core.storage.csv_rows import csv_text, unescaped


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"a": 1, "b": 0.1}, {"c": True, "a": 2, "b": 1e-7}], "a,b,c\n1,0.1,\n2,1e-07,True\n"),
        ([{"a": None, "b": math.nan, "c": ""}, {"a": 0.0, "b": math.inf, "c": "é"}], "a,b,c\n,,\n0.0,inf,é\n"),
        ([{"a,b": 'x"y', "c": "x\ny"}], '"a,b",c\n"x""y","x\ny"\n'),
        ([{"a": ""}, {"a": "x"}], 'a\n""\nx\n'),
        ([], "\n"),
    ],
    ids=["keys and numbers", "empty cells", "quotes", "one empty text", "no rows"],
)
def test_a_table_is_written_as_pandas_writes_it(rows, text):
    assert csv_text(rows) == text == pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def test_whole_numbers_next_to_an_empty_cell_stay_whole():
    assert csv_text([{"a": 1}, {"a": None}]) == 'a\n1\n""\n'


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "@SUM(A1)", "-1", "'=x", "''+", "'quoted'", "plain", ""])
def test_a_text_that_a_spreadsheet_would_run_is_quoted_and_read_back_as_it_was(text):
    (cell,) = csv.reader([csv_text([{"a": text}]).splitlines()[1]])
    assert unescaped((cell or [""])[0]) == text and not (cell or [""])[0].startswith(("=", "+", "-", "@"))
    assert csv_text([{"a": -1.5}]) == "a\n-1.5\n"
