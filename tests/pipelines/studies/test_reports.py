import math

import pandas as pd
import pytest

from pipelines.studies.definition import Study
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import Cell, CellResult
from pipelines.studies.reports import add_published, aggregate, format_table, make_frame, markdown

CELLS = pd.DataFrame(
    {
        "variant": ["ste", "ste", "ste", "random", "random"],
        "seed": [0, 1, 2, 0, 1],
        "status": ["ok", "ok", "failed: the loss is nan", "ok", "ok"],
        "test_accuracy": [0.8, 0.9, math.nan, 0.5, 0.5],
        "start_fitness": [0.25, math.nan, math.nan, math.nan, math.nan],
    }
)
TABLE_4 = {"metrics": {"test_accuracy": 0.9616}, "sd": {"test_accuracy": 0.0013}, "source": "Table 4"}
STUDY = Study.model_validate(
    {
        "title": "A",
        "preset": "digits",
        "seeds": 1,
        "grid": {"variant": [{"label": "ste"}, {"label": "random"}]},
        "metrics": ["test_accuracy", "start_fitness"],
        "published": [{"columns": {"variant": "ste"}} | TABLE_4],
    }
)


def test_means_of_the_seeds_that_succeeded_stand_above_the_published_rows():
    table = aggregate(CELLS, ["variant"], STUDY.metrics)
    assert table["test_accuracy_sd"].tolist() == [pytest.approx(0.1 / math.sqrt(2)), 0]  # of a sample
    assert math.isnan(aggregate(CELLS[:1], ["variant"], ["test_accuracy"])["test_accuracy_sd"].iloc[0])  # one seed
    assert table["start_fitness_n"].tolist() == [1, 0]  # fewer cells than succeeded
    shown = format_table(add_published(table, STUDY), ["variant"], STUDY.metrics)
    assert list(shown) == ["variant", "test accuracy (%)", METRICS["start_fitness"].header, "n", "failed", "source"]
    assert shown.to_numpy().tolist() == [
        ["ste", "85.00 ± 7.07", "0.250 (n = 1)", "2", "1", "ours"],
        ["random", "50.00", "", "2", "0", "ours"],
        ["ste (published)", "96.16 ± 0.13", "", "", "", "published: Table 4"],
    ]


def test_a_column_of_labels_with_the_name_of_a_number_keeps_its_labels(make_params):
    cells = [
        Cell(labels, make_params(), (), key=labels["a"], full_parameters=200)
        for labels in ({"footprint": "small", "a": "x"}, {"a": "y"})
    ]
    result = CellResult("ok", {"footprint": 1234, "test_accuracy": 0.5, "parameters": 50})
    frame = make_frame(["footprint", "a"], cells, dict.fromkeys("xy", result))
    assert frame["footprint"].tolist() == ["small", ""]
    assert frame["test_accuracy"].tolist() == [0.5, 0.5]
    assert frame["parameter_ratio"].tolist() == [0.25, 0.25]  # of the plain network


def test_labels_are_no_html_no_cells_and_no_lines_of_a_markdown_table():
    shown = markdown("A <b>", pd.DataFrame([["a|b\nc", "1"]], columns=["<b>", "n"]))
    assert shown == "## A &lt;b&gt;\n\n| &lt;b&gt; | n   |\n| --------- | --- |\n| a\\|b c    | 1   |\n"


@pytest.mark.parametrize(
    ("name", "mean", "sd", "text"),
    [
        ("parameters", 4352154.0, 0.0, "4,352,154"),
        ("parameter_ratio", 0.184, 3e-17, "18.4"),
        ("energy_mj", 0.00012345, math.nan, "0.0001234"),
        ("L_ce", math.nan, math.nan, ""),
    ],
)
def test_numbers_are_written_with_their_unit_and_spread(name, mean, sd, text):
    assert METRICS[name].format(mean, sd) == text
