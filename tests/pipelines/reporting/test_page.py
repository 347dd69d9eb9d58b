"""The tables of mistakes, of genes, and of what was scored again."""

import pandas as pd
import pytest

from gee_core.genome.genotype import analytic_genotype
from pipelines.inputs.genotype_file import load_genotype
from pipelines.reporting.page import gene_table, recognition_table, rescored_table
from tests.pipelines.report_inputs import PARAMS, SHAPE, write_inputs

TABLE = pd.DataFrame({"actual": list("aabbbc"), "predicted": list("abccac")})


def test_the_least_recognised_class_comes_first_and_one_without_images_is_left_out():
    assert recognition_table(TABLE, ["a", "b", "none", "c"]) == [("b", 0.0, 3, "c"), ("a", 0.5, 2, "b"), ("c", 1.0, 1, None)]


@pytest.mark.parametrize("params", [PARAMS, SHAPE], ids=["wiring", "shape"])
def test_genes_stand_next_to_their_neutral_values_and_ranges(tmp_path, params):
    write_inputs(tmp_path, params=params)
    genotype = load_genotype(params, tmp_path / "models/evolve/genotype.json")
    rows = {row["symbol"]: row for row in gene_table(params, genotype)}
    assert len(rows) >= len(genotype.searched)
    if params is PARAMS:
        sigma_O = analytic_genotype([32] * 7 + [64] * 6 + [128] * 4, 24).sigma_O
        assert (rows["σ_O"]["winner"], rows["σ_O"]["neutral"], rows["σ_O"]["range"]) == (0.123, pytest.approx(sigma_O), None)
    else:
        assert {symbol: rows[symbol]["neutral"] for symbol in ("ω_O", "β", "τ")} == {"ω_O": 0, "β": 0, "τ": 2}
        assert rows["β"]["winner"] == genotype.genes["beta"] and rows["ω_O"]["range"] == (0, 1)


def test_the_gain_of_a_search_is_paired_by_draw_and_clear_from_two_errors_on():
    def again(start, winner):
        rows = [("", 0.9, False)] * 2 + [("0-0", F, False) for F in start] + [("1-2", F, min(winner) == F) for F in winner]
        table = pd.DataFrame(rows, columns=["rescored", "final_fitness", "winner"])
        return next(row for row in rescored_table(table) if row["start"])

    clear, noisy = again([0.7, 0.5, 0.6], [0.6, 0.41, 0.5]), again([0.7, 0.5, 0.6], [0.4, 0.6, 0.5])
    between, beyond = again([0.7, 0.7], [0.7, 0.4]), again([0.7, 0.7], [0.6, 0.4])
    assert [(round(each["gain"] / each["error"], 2), each["certain"]) for each in (between, beyond)] == [(1, False), (2, True)]
    assert (round(clear["gain"], 4), round(clear["error"], 4), clear["certain"]) == (0.0967, 0.0033, True)
    assert (round(noisy["gain"], 4), round(noisy["error"], 4), noisy["certain"]) == (0.1, 0.1155, False)
    assert not again([0.7], [0.6])["certain"]  # one draw tells no error
    assert pd.isna(again([0.7, 0.5], [0.6])["gain"])
