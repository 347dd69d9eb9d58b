"""The figures of the search: of its candidates and of its winner."""

import numpy as np
import pandas as pd
import pytest

from pipelines.figures.search import fitness_over_generations as fitness
from tests.pipelines.figures.svg_checks import assert_self_contained, texts
from tests.pipelines.report_inputs import SHAPE, candidates

NAMES = ("0-1", "1-2", "mean")


@pytest.mark.parametrize(
    "table",
    [
        {"failed": (0, 1, 2, 3), "rescored": NAMES, "draws": 1},
        {"failed": range(12)},
        {"rescored": NAMES, "failed": range(12, 21)},
    ],
    ids=["some failed", "all failed", "scored again in vain"],
)
def test_a_search_with_failures_is_drawn(table):
    assert_self_contained(fitness(candidates(**table)))


def test_a_table_in_memory_is_drawn_as_the_file_is(tmp_path):
    table = candidates(params=SHAPE, failed=(2,), rescored=NAMES).round(4)
    table.to_csv(tmp_path / "candidates.csv", index=False)
    read = pd.read_csv(tmp_path / "candidates.csv")
    assert read["rescored"].isna().sum() == 12
    assert fitness(read) == fitness(table)


def test_the_title_gives_the_least_fitness_of_the_search_and_a_candidate_outside_of_the_budget_is_never_the_best():
    table = candidates(rescored=NAMES)
    assert f"Best fitness {table['final_fitness'][table['rescored'] == ''].min():.3f}" in texts(fitness(table))
    outside = (table["index"] == 1) & (table["rescored"] == "")
    best = table["final_fitness"].mask(outside | (table["rescored"] != "")).min()
    table.loc[outside, "fitness"], table.loc[outside, "final_fitness"] = 0.001, np.nan
    assert f"Best fitness {best:.3f}" in texts(fitness(table))
    assert "failed" not in texts(fitness(table)) and "scored again" in texts(fitness(table))
