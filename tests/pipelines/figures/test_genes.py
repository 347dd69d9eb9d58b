import numpy as np
import pandas as pd
import pytest

from gee_core.config.shape import SEARCH_RANGES
from pipelines.figures import genes as figures
from pipelines.figures.candidates import start_of_search
from pipelines.figures.genes import symbol
from pipelines.reporting.wiring import shape_table
from tests.pipelines.figures.svg_checks import (
    assert_references_are_found_and_no_id_is_shared,
    assert_same_bytes_and_self_contained,
    texts,
)
from tests.pipelines.report_inputs import PARAMS, PLAIN_COLUMNS, SHAPE, Shape, candidates, changed

SHARED = changed(evolve={"genotype": "shared"})
RANDOM = changed(SHAPE, evolve={"variant": "random_search"})
NAMES = ("0-1", "1-2", "mean")
WIRING = pd.DataFrame({"encoding": ["O", "X0"], "sigma": [0.1, 0.2], "analytic": [0.1, 0.1]})
RESCORED = candidates(params=SHAPE, failed=(2,), rescored=NAMES)
NO_ROWS = pd.DataFrame(columns=PLAIN_COLUMNS)
EVERY = range(12)


def genes(winner, start=None, params=SHAPE):
    return shape_table(winner, start, params.searched_genes())


def draw(function, *arguments, **table):
    return lambda: function(candidates(**table), *arguments)


fitness, components = figures.fitness_over_generations, figures.components
over_genes, searched = figures.fitness_over_genes, SHAPE.searched_genes()
DRAWN = {
    "fitness": draw(fitness),
    "fitness, some failed": draw(fitness, failed=(0, 1, 2, 3)),
    "fitness, all failed": draw(fitness, failed=EVERY),
    "fitness, thousands": draw(fitness, n_generations=2, population=1000),
    "fitness, scored again": draw(fitness, rescored=NAMES),
    "fitness, scored again once": draw(fitness, rescored=NAMES, draws=1),
    "fitness, scored again in vain": draw(fitness, rescored=NAMES, failed=range(12, 21)),
    "components": draw(components, failed=(1,)),
    "components, all failed": draw(components, failed=EVERY),
    "components, scored again": draw(components, rescored=NAMES),
    "plane": draw(figures.candidates_plane, failed=(1,)),
    "plane, scored again": draw(figures.candidates_plane, rescored=NAMES),
    "plane, single": draw(figures.candidates_plane, n_generations=1, population=1),
    "plane, all failed": draw(figures.candidates_plane, failed=EVERY),
    "genes": draw(over_genes, searched, params=SHAPE, failed=(1,)),
    "genes, all failed": draw(over_genes, searched, params=SHAPE, failed=EVERY),
    "genes, scored again": draw(over_genes, searched, params=SHAPE, rescored=NAMES),
    "genes, random search": draw(over_genes, searched, params=RANDOM),
    "state": draw(figures.search_state, PARAMS.searched_genes()),
    "state of two genes": draw(figures.search_state, SHARED.searched_genes(), params=SHARED),
    "state of many genes, one generation": draw(figures.search_state, PARAMS.searched_genes(), n_generations=1),
    "state, one generation": draw(figures.search_state, searched, params=SHAPE, n_generations=1),
    "wiring": lambda: figures.wiring_against_analytic(WIRING),
    "ranges": lambda: figures.genes_in_their_ranges(genes(Shape(omega_O=0.5, gamma_0=2.0), start_of_search(RESCORED))),
    "ranges, no start": lambda: figures.genes_in_their_ranges(genes(Shape(beta=4.0))),
}


@pytest.mark.parametrize("name", DRAWN)
def test_same_table_gives_the_same_svg_which_loads_nothing_and_has_no_date(name):
    assert_same_bytes_and_self_contained(DRAWN[name])


def test_every_reference_finds_its_id_and_two_figures_share_none():
    names = ("fitness", "components", "plane", "genes", "state", "wiring", "ranges")
    assert_references_are_found_and_no_id_is_shared(DRAWN[name]() for name in names)


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (PARAMS, {"fitness", "components", "candidates", "search_state"}),
        (SHARED, {"fitness", "components", "candidates", "search_state"}),
        (SHAPE, {"fitness", "components", "candidates", "search_state"}),
        (RANDOM, {"fitness", "components", "candidates"}),
    ],
)
def test_the_figures_of_a_search_are_those_of_its_form(params, names):
    svgs = figures.evolve_figures(candidates(params=params), params)
    assert set(svgs) == names
    has_plane = "Which wiring learns fastest" in texts(svgs["candidates"])
    assert has_plane == (params.evolve.genotype != "shape")


@pytest.mark.parametrize("table", [candidates(1, 1), candidates(1, 1, rescored=("0-0",)), NO_ROWS])
def test_a_single_wiring_or_none_has_no_figures_of_a_search(table):
    assert figures.evolve_figures(table, PARAMS) == {}


def test_a_table_in_memory_is_drawn_as_the_file_is(tmp_path):
    table = RESCORED.round(4)
    table.to_csv(tmp_path / "candidates.csv", index=False)
    read = pd.read_csv(tmp_path / "candidates.csv")
    assert read["rescored"].isna().sum() == 12
    assert figures.evolve_figures(read, SHAPE) == figures.evolve_figures(table, SHAPE)


@pytest.mark.parametrize(("variant", "start"), [("ste", "0-0"), ("random_search", "start")])
def test_title_gives_the_fitness_of_the_winner_beside_that_of_the_start_on_the_same_draws(variant, start):
    table = candidates(rescored=("0-1", start, "mean"), params=changed(evolve={"variant": variant}))
    won = table["rescored"][table["winner"]].item()
    fresh = table["final_fitness"].groupby(table["rescored"]).mean()
    expected = "The start won" if won == start else f"On fresh draws {fresh[won]:.3f}, the start {fresh[start]:.3f}"
    assert expected in texts(fitness(table))
    other = table.assign(winner=table.index == table.index[table["rescored"] == ("0-1" if won == start else start)][0])
    title = f"On fresh draws {fresh['0-1']:.3f}, the start {fresh[start]:.3f}" if won == start else "The start won"
    assert title in texts(fitness(other))


def test_title_gives_the_least_fitness_of_the_search_where_its_start_was_not_scored_again_or_failed():
    for table in (candidates(), candidates(rescored=NAMES), candidates(rescored=("0-1", "0-0"), failed=(16,))):
        best = table["final_fitness"][table["rescored"] == ""].min()
        assert f"Best fitness {best:.3f}" in texts(fitness(table))


def test_what_was_scored_again_stands_beside_the_search_by_name():
    shown = texts(fitness(RESCORED))
    assert shown.index("scored again") and set(NAMES) <= set(shown)
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
    assert over_genes(moved, searched) == over_genes(table, searched)


def test_thousands_of_candidates_are_one_picture_in_a_small_file():
    for svg in (figures.candidates_plane(candidates(5, 1000)), over_genes(candidates(5, 1000), ["sigma_O"])):
        assert svg.count("<use") < 100 and len(svg) < 500_000


def test_an_eliminated_candidate_is_never_the_best_whatever_its_earlier_fitness():
    table = candidates()
    eliminated = table["index"] == 1
    best = table["final_fitness"].mask(eliminated).min()
    table.loc[eliminated, "fitness"], table.loc[eliminated, "final_fitness"] = 0.001, np.nan
    assert f"Best fitness {best:.3f}" in texts(fitness(table))
    assert "failed" not in texts(fitness(table))


def test_components_are_those_that_the_fitness_takes():
    table = candidates()
    assert {"L_ce, loss", "R_T, dynamics"} <= set(texts(components(table)))


def test_every_searched_gene_has_a_panel_with_start_and_winner():
    shown = texts(over_genes(RESCORED, searched))
    assert {"σ_X", "ω_O", "ω_X", "β", "α", "κ", "ρ", "γ_0", "γ_end", "slope", "start", "winner"} <= set(shown)
    assert "start" not in texts(over_genes(candidates(params=RANDOM), searched))


def test_a_factor_on_the_sigmas_is_shown_as_their_geometric_mean():
    rows = pd.DataFrame({"sigma_O": [5.0], "sigma_0": [1.0], "sigma_1": [4.0], "std_sigma_1": [9.0]})
    assert figures.gene_values(rows, "sigma").tolist() == figures.gene_values(rows, "sigma_X").tolist() == [pytest.approx(2.0)]
    assert figures.gene_values(rows, "sigma_1").tolist() == [4.0]


def test_state_names_every_gene():
    assert {"σ_O", *(f"σ_{layer}" for layer in range(17))} <= set(texts(DRAWN["state"]()))
    assert {"σ", "γ_end", "slope"} <= set(texts(DRAWN["state, one generation"]()))


def test_ranges_are_those_of_the_search_widened_to_a_winner_outside():
    shown = texts(DRAWN["ranges"]())
    assert {f"{limit:g}" for pair in SEARCH_RANGES.values() for limit in pair} <= set(shown)
    assert {"0.5", "start", "neutral"} <= set(shown)
    assert "start" not in texts(DRAWN["ranges, no start"]()) and "4" in texts(DRAWN["ranges, no start"]())


def test_of_many_genes_every_one_has_a_row_in_the_state():
    names = [symbol(gene) for gene in PARAMS.searched_genes()]
    shown = texts(DRAWN["state"]())
    assert len(names) == 18 and all(shown.count(name) == 2 for name in names)
