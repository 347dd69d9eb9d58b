import math

import pandas as pd
import pytest

from pipelines.studies import figures
from tests.pipelines.figures.svg_checks import assert_self_contained, texts

CELLS = pd.DataFrame(
    {
        "network": ["A", "A", "A", "A", "B & <C>", "B & <C>"],
        "genes": ["50", "50", "100", "100", "50", "50"],
        "seed": [0, 1, 0, 1, 0, 1],
        "test_accuracy": [0.5, 0.6, 0.7, 0.8, 0.4, 0.45],
        "parameters": [100, 100, 200, 200, 90, 90],
    }
)
CALLS = {
    "bars": ("test_accuracy", ["network"]),
    "line": ("genes", "test_accuracy", ["network"]),
    "scatter": ("parameters", "test_accuracy", ["network"], ["network", "genes"]),
}


def draw(name: str, cells: pd.DataFrame) -> str:
    return getattr(figures, name)(cells, *CALLS[name])


@pytest.mark.parametrize("name", CALLS)
def test_every_group_is_in_the_figure_once_and_its_label_is_text(name):
    for labels in ("A", "B & <C>"), ("<script>alert(1)</script>", "$\\frac$"):
        svg = draw(name, CELLS.replace({"network": dict(zip(("A", "B & <C>"), labels, strict=True))}))
        assert_self_contained(svg)
        assert [texts(svg).count(label) for label in labels] == [1, 1]
    assert "all" in texts(figures.scatter(CELLS, "parameters", "test_accuracy", [], ["network", "genes"]))


@pytest.mark.parametrize(
    ("parameters", "axis", "groups"),
    [
        ([-1.0, -1.0, 0.0, 0.0, 2.0, 2.0], "parameters", ["A", "B"]),
        ([math.nan] * 4 + [90.0] * 2, "parameters (log)", ["B"]),
        ([math.nan] * 6, "parameters", []),
    ],
)
def test_a_scatter_plot_is_logarithmic_where_it_can_be(parameters, axis, groups):
    """A group without marks is not in its legend."""
    cells = CELLS.assign(parameters=parameters).replace({"network": {"B & <C>": "B"}})
    shown = texts(draw("scatter", cells))
    assert axis in shown and [name for name in ("A", "B") if name in shown] == groups
