"""The figures of the search: of its candidates, of its genes and of its winner."""

import numpy as np
import pandas as pd
import pytest

from gee_core.config.shape import SEARCH_RANGES
from pipelines.figures import genes as figures
from pipelines.figures.candidates import components, start_of_search
from pipelines.figures.candidates import fitness_over_generations as fitness
from pipelines.figures.genes import symbol
from pipelines.reporting.tables import shape_table
from tests.pipelines.figures.svg_checks import assert_same_bytes_and_self_contained, texts
from tests.pipelines.report_inputs import PARAMS, PLAIN_COLUMNS, SHAPE, Shape, candidates, changed

SHARED = changed(evolve={"genotype": "shared"})
RANDOM = changed(SHAPE, evolve={"variant": "random_search"})
NAMES = ("0-1", "1-2", "mean")
WIRING = pd.DataFrame({"encoding": ["O", "X0"], "sigma": [0.1, 0.2], "analytic": [0.1, 0.1]})
RESCORED = candidates(params=SHAPE, failed=(2,), rescored=NAMES)
EVERY = range(12)


def ranges(winner, start=None):
    return figures.genes_in_their_ranges(shape_table(winner, start, SHAPE.searched_genes()))


def draw(function, *arguments, **table):
    return lambda: function(candidates(**table), *arguments)


over_genes, searched = figures.fitness_over_genes, SHAPE.searched_genes()
DRAWN = {
    "fitness": draw(fitness, failed=(0, 1, 2, 3), rescored=NAMES, draws=1),
    "fitness, all failed": draw(fitness, failed=EVERY),
    "fitness, scored again in vain": draw(fitness, rescored=NAMES, failed=range(12, 21)),
    "components": draw(components, rescored=NAMES),
    "components, all failed": draw(components, failed=EVERY),
    "plane": draw(figures.candidates_plane, failed=(1,), rescored=NAMES),
    "plane, single": draw(figures.candidates_plane, n_generations=1, population=1),
    "plane, all failed": draw(figures.candidates_plane, failed=EVERY),
    "genes, all failed": draw(over_genes, ["sigma_O", "omega_O"], params=SHAPE, failed=EVERY),
    "genes": draw(over_genes, ["sigma_O", "gamma_end"], params=SHAPE, rescored=NAMES),
    "state": draw(figures.search_state, PARAMS.searched_genes()),
    "state of two genes, one generation": draw(figures.search_state, SHARED.searched_genes(), params=SHARED, n_generations=1),
    "wiring": lambda: figures.wiring_against_analytic(WIRING),
    "ranges": lambda: ranges(Shape(omega_O=0.5, gamma_0=2.0), start_of_search(RESCORED)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_same_table_gives_the_same_svg_which_loads_nothing_and_has_no_date(name):
    assert_same_bytes_and_self_contained(DRAWN[name])


@pytest.mark.parametrize("params", [SHARED, RANDOM])
def test_the_figures_of_a_search_are_those_of_its_form(params):
    svgs = figures.evolve_figures(candidates(1, 3, params=params), params)
    assert set(svgs) == {"fitness", "components", "candidates"} | ({"search_state"} if params is SHARED else set())
    assert ("Which wiring learns fastest" in texts(svgs["candidates"])) == (params is SHARED)


@pytest.mark.parametrize("table", [candidates(1, 1, rescored=("0-0",)), pd.DataFrame(columns=PLAIN_COLUMNS)])
def test_a_single_wiring_or_none_has_no_figures_of_a_search(table):
    assert figures.evolve_figures(table, PARAMS) == {}


def test_a_table_in_memory_is_drawn_as_the_file_is(tmp_path):
    table = RESCORED.round(4)
    table.to_csv(tmp_path / "candidates.csv", index=False)
    read = pd.read_csv(tmp_path / "candidates.csv")
    assert read["rescored"].isna().sum() == 12
    assert fitness(read) == fitness(table)


@pytest.mark.parametrize(("variant", "start"), [("ste", "0-0"), ("random_search", "start")])
def test_title_gives_the_fitness_of_the_winner_next_to_that_of_the_start_on_the_same_draws(variant, start):
    table = candidates(rescored=("0-1", start, "mean"), params=changed(evolve={"variant": variant}))
    fresh = table["final_fitness"].groupby(table["rescored"]).mean()
    for won in ("0-1", start):
        first = table.index[table["rescored"] == won][0]
        title = "The start won" if won == start else f"On fresh draws {fresh[won]:.3f}, the start {fresh[start]:.3f}"
        assert title in texts(fitness(table.assign(winner=table.index == first)))


def test_title_gives_the_least_fitness_of_the_search_where_its_start_was_not_scored_again_or_failed():
    for table in (candidates(), candidates(rescored=NAMES), candidates(rescored=("0-1", "0-0"), failed=(16,))):
        best = table["final_fitness"][table["rescored"] == ""].min()
        assert f"Best fitness {best:.3f}" in texts(fitness(table))


def test_what_was_scored_again_stands_next_to_the_search_by_name():
    shown = texts(fitness(RESCORED))
    assert {"scored again", *NAMES} <= set(shown)
    assert "3" not in shown  # is no generation
    assert "scored again" not in texts(fitness(candidates()))


def test_failed_and_far_candidates_are_shown_at_the_rim_and_do_not_stretch_the_axis():
    table = candidates(failed=(5,))
    table.loc[2, ["final_fitness", "fitness"]] += 1e6
    for shown in (texts(fitness(table)), texts(over_genes(table.assign(winner=False), ["sigma_O"]))):
        assert {"failed", "far above"} <= set(shown)
        assert not any("e6" in text or "000000" in text for text in shown)


def test_the_fitness_over_genes_is_relative_to_its_generation_whose_seed_moves_all_of_it():
    table = candidates(params=SHAPE, failed=(1,))
    moved = table.copy()
    moved.loc[moved["generation"] == 1, ["fitness", "final_fitness"]] += 0.5
    assert over_genes(moved, ["omega_O"]) == over_genes(table, ["omega_O"])


def test_thousands_of_candidates_are_one_picture_in_a_small_file():
    for svg in (figures.candidates_plane(candidates(2, 1000)), over_genes(candidates(2, 1000), ["sigma_O"])):
        assert svg.count("<use") < 100 and len(svg) < 500_000


def test_an_eliminated_candidate_is_never_the_best_whatever_its_earlier_fitness():
    table = candidates()
    eliminated = table["index"] == 1
    best = table["final_fitness"].mask(eliminated).min()
    table.loc[eliminated, "fitness"], table.loc[eliminated, "final_fitness"] = 0.001, np.nan
    assert f"Best fitness {best:.3f}" in texts(fitness(table))
    assert "failed" not in texts(fitness(table))


def test_every_searched_gene_has_a_panel_with_start_and_winner():
    shown = texts(over_genes(RESCORED, searched))
    assert {*map(symbol, set(searched) - {"sigma"}), "σ_X", "start", "winner"} <= set(shown)
    assert "start" not in texts(over_genes(candidates(params=RANDOM), ["sigma_O"]))


def test_a_factor_on_the_sigmas_is_shown_as_their_geometric_mean():
    rows = pd.DataFrame({"sigma_O": [5.0], "sigma_0": [1.0], "sigma_1": [4.0], "std_sigma_1": [9.0]})
    assert figures.gene_values(rows, "sigma").tolist() == figures.gene_values(rows, "sigma_X").tolist() == [pytest.approx(2.0)]
    assert figures.gene_values(rows, "sigma_1").tolist() == [4.0]


def test_the_state_names_every_gene():
    names = [symbol(gene) for gene in PARAMS.searched_genes()]
    shown = texts(DRAWN["state"]())
    assert len(names) == 18 and all(shown.count(name) == 2 for name in names)
    assert {"σ_O", "σ_X"} <= set(texts(DRAWN["state of two genes, one generation"]()))


def test_ranges_are_those_of_the_search_widened_to_a_winner_outside():
    shown = texts(DRAWN["ranges"]())
    assert {f"{limit:g}" for pair in SEARCH_RANGES.values() for limit in pair} <= set(shown)
    assert {"0.5", "start", "neutral"} <= set(shown)
    alone = texts(ranges(Shape(beta=4.0)))
    assert "start" not in alone and "4" in alone
