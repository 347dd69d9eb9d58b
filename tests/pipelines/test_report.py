"""The page of the stage report, and its summary.json."""

import hashlib
import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from gee_core.config import Shape
from gee_core.config.known_networks import encoded_channels
from gee_core.genome.genotype import analytic_genotype
from gee_core.model.network import build_network, count_parameters
from pipelines.project.params import load_params
from pipelines.report import run
from pipelines.reporting.page import MLFLOW, as_yaml
from pipelines.reporting.paper import paper_rows
from tests.pipelines.report_inputs import HOSTILE, PARAMS, PLAIN, SHAPE, Page, changed, make


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """(folder, summary, page) of a small run."""
    root = tmp_path_factory.mktemp("run")
    return root, *make(root)


def test_every_tile_shows_its_number(default):
    _, summary, html = default
    tiles = Page(html).tiles
    shown = {key: text.replace("\N{NO-BREAK SPACE}", " ") for key, (_, text) in tiles.items()}
    assert shown == {
        "test_accuracy": "97.31 %",
        "parameters": "312,340",
        "energy_mj": "3.8 µJ",
        "spikes_per_image": "10,842",
        "noise_accuracy": "86.19 %",
    }
    assert {key: float(value) for key, (value, _) in tiles.items()} == {key: getattr(summary, key) for key in tiles}
    text = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "The classes are uneven: '0' has 40 training images, 4.0 times as many as '1' with 10." in text
    assert "of 20 images never trained on; mean of the classes 95.00 %" in text
    assert "of 802,000 plain = 38.9 %" in Page(html).text and "247 µJ with building W" in Page(html).text


def test_summary_file_is_what_is_returned(default):
    root, summary, _ = default
    written = json.loads((root / "reports/summary.json").read_text())
    assert list(written.items()) == list(summary.values().items())


def test_every_file_is_read_once(tmp_path, no_figures, monkeypatch):
    read, read_text = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *args, **kwargs: read.append(path) or read_text(path, *args, **kwargs))
    make(tmp_path)
    of_stages = sorted(path.relative_to(tmp_path).as_posix() for path in read if path.suffix == ".json")
    metrics = [f"reports/{stage}/metrics.json" for stage in ("evaluate", "evolve", "export", "robustness")]
    assert of_stages == ["models/evolve/genotype.json", "prepared/meta.json", *metrics]


def test_same_inputs_give_the_same_bytes(default, tmp_path):
    assert make(tmp_path)[1] == default[2]


def test_hostile_names_and_titles_are_text(tmp_path):
    title = "</title><script>alert(2)</script>"
    _, html = make(tmp_path, changed(report={"title": title}), classes=HOSTILE)
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "object", "embed", "b"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert title in page.text and HOSTILE[1] in page.text


def test_page_loads_nothing_from_anywhere(tmp_path):
    _, html = make(tmp_path, n_generations=2, population=1000)
    for tag, attributes in Page(html).tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:")) or (tag == "a" and target.startswith(MLFLOW)), (tag, target)
    assert not re.search(r"@import|url\((?!#)", html)


def test_headings_are_in_order_and_tables_have_scopes(default):
    html = default[2]
    tags = Page(html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in tags if tag == "svg")
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_fitness_of_a_winner_of_the_search_is_that_of_the_last_lambda(default):
    assert re.search(r"Fitness\s+[\d.]+ \(at the λ of the last generation\)", Page(default[2]).text)


def test_failed_candidates_are_counted_and_their_reasons_escaped(default):
    text = Page(default[2]).text
    assert "1 of 6 candidates failed" in text and "1 × failed: RuntimeError: <b>loss</b>" in text


def test_a_variant_that_does_not_search_has_no_figures_of_the_search(tmp_path):
    _, html = make(tmp_path, changed(evolve={"variant": "random"}), n_generations=1, population=1, epochs=1)
    assert "does not search" in html and "Best fitness" not in html and "The wiring against" in html


def test_a_plain_network_has_nothing_to_evolve(tmp_path):
    summary, html = make(tmp_path, PLAIN, plain=True)
    text = Page(html).text
    assert summary.best_fitness is None and summary.n_genes is None
    assert "nothing to evolve" in text and "all weights are plain" in text and "winner’s" not in text
    assert "nan" not in text.split()


def test_the_shape_of_a_plain_network_is_told(tmp_path, no_figures):
    assert "shaped by" not in Page(make(tmp_path, PLAIN, plain=True)[1]).text
    shaped = changed(PLAIN, network={"init": Shape(beta=0.5)})
    assert "He’s initialisation, shaped by network.init ." in Page(make(tmp_path, shaped, plain=True)[1]).text


def test_a_hundred_classes_fit(tmp_path):
    _, html = make(tmp_path, classes=[f"class {i}" for i in range(100)])
    text = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "in 100 classes" in text and len(html) < 600_000
    assert "Class Recognised of images Most often called class 0 50.0 % 2 class 1 class 1 100.0 % 2 – class 2" in text
    least, everything = text.split("Least recognised classes")[1].split("All 100 classes, the least recognised first")
    assert "class 9 100.0 %" in least and "class 10 100.0 %" not in least and "class 99 100.0 %" in everything


def test_ten_classes_have_their_numbers_in_the_matrix_alone(default):
    assert "recognised classes" not in default[2]


def test_the_run_in_mlflow_is_found_by_the_summary(default):
    root, _, html = default
    result = hashlib.sha256((root / "reports/summary.json").read_bytes()).hexdigest()[:12]
    links = [attributes["href"] for tag, attributes in Page(html).tags if tag == "a"]
    assert [unquote(link) for link in links] == [f"{MLFLOW}tags.\"gee.result\" = '{result}'"]
    assert f"search the experiment for tags.\"gee.result\" = '{result}'" in Page(html).text


def test_all_parameters_are_shown_as_they_can_be_read_back(tmp_path):
    (tmp_path / "params.yaml").write_text(as_yaml(PARAMS))
    assert load_params(tmp_path / "params.yaml") == PARAMS
    assert as_yaml(PARAMS).startswith("base:\n  seed: ")


def test_wiring_stands_beside_the_analytic_one(default):
    text = Page(default[2]).text
    sigma_O = analytic_genotype([32] * 7 + [64] * 6 + [128] * 4, 24).sigma_O
    assert f"0.123 {sigma_O:.4g} {0.123 / sigma_O:.2f}" in text


def test_genes_of_shape_stand_beside_their_start_and_neutral_values(tmp_path, no_figures):
    make(tmp_path, SHAPE)
    rows = pd.read_csv(tmp_path / "reports/evolve/candidates.csv")
    text, won = Page((tmp_path / "reports/index.html").read_text()).text, rows[rows["winner"]]
    for symbol, gene, neutral in [("ω_O", "omega_O", 0), ("γ_end", "gamma_end", 1), ("slope", "slope", 0)]:
        assert f"{symbol} {won[gene].item():.4g} {rows[gene][0]:.4g} {neutral} " in text
    assert (
        "1 the singular values" not in text
        and "0 the singular values of O are raised to 1 - ω_O, its Frobenius norm kept" in text
    )
    assert "9 genes of shape" in text and "one factor on all σ" in text and "not searched" not in text


def test_a_gene_that_only_init_shapes_is_told_and_neutral_ones_are_not(tmp_path, no_figures):
    make(tmp_path)
    path = tmp_path / "models/evolve/genotype.json"
    found = json.loads(path.read_text())
    assert "of shape" not in Page((tmp_path / "reports/index.html").read_text()).text
    path.write_text(json.dumps(found | {"shape": {"rho": 0.25}}))
    run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    text = Page((tmp_path / "reports/index.html").read_text()).text
    assert "1 gene of shape" in text
    assert "ρ 0.25 0 0 correlation of X_l between kernel positions, and ρ² that of W (not searched)" in text


@pytest.mark.parametrize("failed", [[], [6]])
def test_what_was_scored_again_stands_beside_its_score_in_the_search(tmp_path, no_figures, failed):
    _, html = make(tmp_path, SHAPE, rescored=["0-1", "0-0", "mean"], failed=failed)
    rows = pd.read_csv(tmp_path / "reports/evolve/candidates.csv")
    F = {name: rows.loc[rows["rescored"] == name, "final_fitness"] for name in ("0-1", "0-0", "mean")}
    text, won = Page(html).text, rows.loc[rows["winner"], "rescored"].item()
    F_of = [f"{value:.4g}" for value in rows["final_fitness"]]
    for name, own, shown in [("0-1", F_of[1], "0-1"), ("0-0", F_of[0], "0-0, the start"), ("mean", "–", "mean of CMA-ES")]:
        mark, n = ", the winner" if name == won else "", F[name].isna().sum()
        assert f"{shown}{mark} {own} {F[name].mean():.4g} {F[name].std():.4g} 3 {n} " in text
    assert "scored again on 3 fresh draws, and the least mean F won" in text and "the best of its 3 fresh draws, seed 1" in text
    gained = f"The winner’s mean F is {F['0-0'].mean() - F[won].mean():.4g} below that of the start."
    assert ("The search found nothing better than its start." if won == "0-0" else gained) in text
    assert "(mean over its fresh draws, at the λ of the last generation)" in text
    assert "candidates failed" not in text  # those of the search


def test_a_start_that_failed_on_a_fresh_draw_is_compared_with_nothing(tmp_path, no_figures):
    text = Page(make(tmp_path, SHAPE, rescored=["0-1", "0-0"], failed=[9])[1]).text
    assert "0-0, the start" in text and "that of the start" not in text and "than its start" not in text


def test_a_search_that_found_nothing_better_than_its_start_says_so(tmp_path, no_figures):
    for variant, name, shown in (("ste", "0-0", "0-0"), ("random_search", "start", "start")):
        params = changed(SHAPE, evolve={"variant": variant})
        text = Page(make(tmp_path / variant, params, rescored=[name])[1]).text
        assert "The search found nothing better than its start." in text
        assert f"{shown}, {'the start, ' if name == '0-0' else ''}the winner " in text


def test_a_search_that_was_not_scored_again_says_nothing_of_it(default):
    assert "cored again" not in Page(default[2]).text


def test_when_every_draw_fails_the_winner_of_the_search_stands(tmp_path, no_figures):
    text = Page(make(tmp_path, SHAPE, rescored=["0-1"], failed=[6, 7, 8])[1]).text
    assert "so the winner of the search stands" in text and "0-1 " in text and "nan" not in text.split()


def test_the_search_is_told_as_it_was_made(tmp_path, no_figures):
    other = changed(SHAPE, evolve={"variant": "random_search"})
    text = Page(make(tmp_path, other)[1]).text
    assert "Random search drew genes of shape" in text and "The search started" not in text


def test_where_the_search_started_is_told(default, tmp_path, no_figures):
    assert "CMA-ES searched the standard deviations" in Page(default[2]).text
    assert "The search started at the analytic wiring." in Page(default[2]).text
    assert "The search started at <i>a.json." in Page(make(tmp_path, changed(evolve={"start": "<i>a.json"}))[1]).text


def test_the_block_and_the_energy_of_residual_sums_are_told(default):
    text = Page(default[2]).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "resnet19 (pre-activation blocks) at 0.25 of the paper's width" in text
    assert "The sums of the residual blocks cost 1.2 µJ more" in text


def test_the_energy_is_told_in_neurobenchs_terms_too(default):
    text = Page(default[2]).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "20,000 effective MACs and 1,234,567 effective ACs of 9,876,543 dense synaptic operations" in text
    assert "activation sparsity 85.6 %, connection sparsity 0.0 %; footprint 1,250,000 bytes with genes, 3,210,000 with" in text


def test_published_networks_stand_beside_their_own_plain_size(default):
    rows = {row["network"]: row["plain_parameters"] for row in paper_rows()}
    assert rows["resnet19"] == count_parameters(build_network("resnet19", 10, 3, 32, block="post")) == 12_696_458
    text = Page(default[2]).text
    assert "resnet19 100 4,352,154 12,696,458 34.3 % – 95.94 % 77.56 % – published" in text
    assert "Not comparable" in text


def test_a_run_on_the_papers_data_stands_in_the_papers_column(tmp_path, no_figures):
    text = Page(make(tmp_path, changed(prepare={"dataset": "cifar100"}))[1]).text
    assert "resnet19, pre, × 0.25 24 312,340 802,000 38.9 % – 97.31 % – this run" in text
    assert "Compare with care" in text and "Not comparable" not in text


def test_layers_that_genes_do_not_save_on_are_counted(default, tmp_path, no_figures):
    assert encoded_channels("resnet19", 0.25)[:3] == [32, 32, 32]
    assert "in 0 of 16 encoded layers" in Page(default[2]).text
    text = Page(make(tmp_path, changed(network={"n_genes": 40}))[1]).text
    assert "in 7 of 16 encoded layers" in text
