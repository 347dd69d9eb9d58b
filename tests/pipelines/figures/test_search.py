"""The figures of the search: of its candidates and of its winner."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pipelines.figures.search import fitness_over_generations as fitness
from pipelines.figures.search import gene_correlations, gene_effects, idle_genes
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
    assert_self_contained(fitness(candidates(**table), ""))


def test_a_table_in_memory_is_drawn_as_the_file_is(tmp_path):
    table = candidates(params=SHAPE, failed=(2,), rescored=NAMES).round(4)
    table.to_csv(tmp_path / "candidates.csv", index=False)
    read = pd.read_csv(tmp_path / "candidates.csv")
    assert read["rescored"].isna().sum() == 12
    assert fitness(read, "") == fitness(table, "")


def test_a_candidate_outside_of_the_budget_is_drawn_and_has_not_failed():
    table = candidates(rescored=NAMES)
    outside = (table["index"] == 1) & (table["rescored"] == "")
    table.loc[outside, "fitness"], table.loc[outside, "final_fitness"] = 0.001, np.nan
    drawn = texts(fitness(table, "The winner"))
    assert "The winner" in drawn and "scored again" in drawn and "failed" not in drawn


GENES = ["noise", "lr", "T", "fixed"]


def search(n=40) -> pd.DataFrame:
    """A search in which ``lr`` falls with the fitness, ``T`` grows somewhat and ``noise`` not at all."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(0.1, 1, (n, 2)), columns=["final_fitness", "noise"])
    F = table["final_fitness"]
    return table.assign(lr=-(F**3), T=F + rng.uniform(0, 1, n), fixed=0.1, rescored="")


def test_a_gene_that_falls_with_the_fitness_correlates_fully_and_noise_with_nothing():
    table = gene_correlations(search(), GENES)
    assert list(table["gene"]) == ["lr", "T", "noise"] and set(table["n"]) == {40}  # the greatest first, none that never varied
    assert tuple(table.iloc[0][["rho", "se"]]) == pytest.approx((-1, 0))  # ranks alone count
    assert idle_genes(table) == ["noise"]
    expected = [spearmanr(search()[gene], search()["final_fitness"]).statistic for gene in table["gene"]]
    np.testing.assert_allclose(table["rho"], expected)


def test_the_standard_error_is_that_of_statpsych():
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    table = gene_correlations(pd.DataFrame({"lr": x, "final_fitness": y, "rescored": ""}), ["lr"])
    assert table[["rho", "se"]].to_numpy().ravel() == pytest.approx([0.8699639, 0.08241326])  # of the example of its ci.spear


def test_six_candidates_of_the_search_with_a_fitness_are_enough():
    table = search(8)
    table.loc[0, "rescored"], table.loc[1, "final_fitness"] = "0-0", np.nan
    found = gene_correlations(table, GENES)
    pd.testing.assert_frame_equal(found, gene_correlations(table[2:], GENES))
    assert set(found["n"]) == {6} and gene_correlations(table[:7], GENES).empty
    table = search().assign(sigma_0=search()["final_fitness"])
    assert gene_correlations(table, ["sigma_X"])["rho"].item() == pytest.approx(1)


def test_every_gene_has_its_bar_and_the_title_counts_those_that_mattered():
    svg = gene_effects(gene_correlations(search(), GENES))
    assert_self_contained(svg)
    assert {"T", "lr", "noise", "2 of 3 genes mattered"} <= set(texts(svg)) and "fixed" not in texts(svg)
