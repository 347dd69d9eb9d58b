import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gee_core.storage.csv_rows import csv_text

EMPTY = st.sampled_from([None, math.nan])
TEXT = st.text(max_size=4) | st.text(alphabet=",\"\r\n\t '\0aé", max_size=4)
"""Class names are any text."""
CELLS = [
    st.floats(width=64) | EMPTY,
    st.floats(0, 1) | EMPTY,
    st.booleans() | EMPTY,
    TEXT | EMPTY,
    st.integers(-(2**63), 2**63 - 1),
]
"""What the cells of a column may be, one kind each."""


@st.composite
def tables(draw) -> list[dict]:
    """Rows whose columns are of one kind each; all but whole numbers may lack in any row."""
    columns = draw(st.dictionaries(TEXT, st.integers(0, len(CELLS) - 1), max_size=5))
    rows: list[dict] = []
    for _ in range(draw(st.integers(0, 5))):
        names = [name for name in columns if columns[name] == len(CELLS) - 1 or draw(st.integers(0, 3))]
        rows.append({name: draw(CELLS[columns[name]]) for name in draw(st.permutations(names))})
    return rows


@settings(max_examples=30)
@given(rows=tables())
def test_the_text_is_that_of_pandas(rows):
    assert csv_text(rows) == pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"a": 1, "b": 0.1}, {"c": True, "a": 2, "b": 1e-7}], "a,b,c\n1,0.1,\n2,1e-07,True\n"),
        ([{"a": None, "b": math.nan, "c": ""}, {"a": 0.0, "b": math.inf, "c": "é"}], "a,b,c\n,,\n0.0,inf,é\n"),
        ([{"a,b": 'x"y', "c": "x\ny"}], '"a,b",c\n"x""y","x\ny"\n'),
        ([{"a": ""}, {"a": "x"}], 'a\n""\nx\n'),
        ([{"a": 1}, {"a": None}], 'a\n1\n""\n'),
        ([], "\n"),
    ],
    ids=["keys and numbers", "empty cells", "quotes", "one empty text", "a whole number and none", "no rows"],
)
def test_a_table_is_written_as(rows, text):
    assert csv_text(rows) == text
