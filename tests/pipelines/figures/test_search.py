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


GENES, OBJECTIVES = ["noise", "lr", "T", "fixed"], ["loss", "energy"]


def search(n=40) -> pd.DataFrame:
    """A search in which ``lr`` equals the loss, ``T`` grows with the energy and ``noise`` with nothing."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(0.1, 1, (n, 3)), columns=["L_ce", "energy_uj", "noise"])
    return table.assign(lr=table["L_ce"], T=table["energy_uj"] ** 3, fixed=0.1, rescored="", final_fitness=-table["L_ce"])


def test_a_gene_that_equals_the_loss_correlates_fully_and_noise_with_nothing():
    table = gene_correlations(search(), GENES, OBJECTIVES).set_index(["gene", "objective"])
    assert sorted(set(table.index.get_level_values("gene"))) == ["T", "lr", "noise"] and set(table["n"]) == {40}
    for pair in (("lr", "loss"), ("T", "energy")):  # ranks alone count
        assert tuple(table.loc[pair, ["rho", "se"]]) == pytest.approx((1, 0))
    noise = table.loc["noise"]
    assert (noise["rho"].abs() < 2 * noise["se"]).all() and idle_genes(table.reset_index()) == ["noise"]
    for gene, objective in table.index:
        x, y = search()[gene], search()[{"loss": "L_ce", "energy": "energy_uj"}[objective]]
        assert table.loc[(gene, objective), "rho"] == pytest.approx(spearmanr(x, y).statistic)


def test_the_standard_error_is_that_of_statpsych():
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    table = gene_correlations(pd.DataFrame({"lr": x, "final_fitness": y, "rescored": ""}), ["lr"], ["fitness"])
    assert table[["rho", "se"]].to_numpy().ravel() == pytest.approx([0.8699639, 0.08241326])  # of the example of its ci.spear


def test_six_candidates_of_the_search_with_every_objective_are_enough():
    table = search(9)
    table.loc[0, "rescored"], table.loc[1, "L_ce"], table.loc[2, "energy_uj"] = "0-0", np.nan, np.nan
    found = gene_correlations(table, GENES, OBJECTIVES)
    pd.testing.assert_frame_equal(found, gene_correlations(table[3:], GENES, OBJECTIVES))
    assert set(found["n"]) == {6} and gene_correlations(table[:8], GENES, OBJECTIVES).empty
    assert gene_correlations(search().assign(sigma_0=search()["L_ce"]), ["sigma_X"], ["loss"])["rho"].item() == pytest.approx(1)
    assert gene_correlations(search(), ["lr"], ["fitness"])["rho"].item() == pytest.approx(-1)  # which is final_fitness


def test_every_gene_has_its_bars_and_the_title_counts_those_that_mattered():
    svg = gene_effects(gene_correlations(search(), GENES, OBJECTIVES))
    assert_self_contained(svg)
    assert {"T", "lr", "noise", *OBJECTIVES, "2 of 3 genes mattered"} <= set(texts(svg)) and "fixed" not in texts(svg)
