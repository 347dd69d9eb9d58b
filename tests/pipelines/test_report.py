"""The page of the stage report, its summary.json, and the files that it refuses."""

import hashlib
import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from gee_core.config import Shape
from gee_core.errors import InputError
from gee_core.genome.genotype import analytic_genotype
from pipelines.project.params import load_params
from pipelines.report import run
from pipelines.reporting.page import MLFLOW
from pipelines.reporting.tables import rescored_table
from tests.pipelines.report_inputs import HARDWARE_ROWS, HOSTILE, PARAMS, PLAIN, SHAPE, Page, changed, make, write_inputs


def text_of(html: str) -> str:
    return Page(html).text.replace("\N{NO-BREAK SPACE}", " ")


def made_again(root: Path, params=PARAMS) -> str:
    """The text of the page of files that were changed."""
    run(params, root / "reports", root / "models", root / "prepared")
    return text_of((root / "reports/index.html").read_text())


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """(folder, summary, page) of a small run."""
    root = tmp_path_factory.mktemp("run")
    return root, *make(root)


@pytest.fixture(scope="module")
def text(default) -> str:
    """The text of its page."""
    return text_of(default[2])


def test_every_tile_shows_its_number(default, text):
    _, summary, html = default
    tiles = Page(html).tiles
    assert {key: shown.replace("\N{NO-BREAK SPACE}", " ") for key, (_, shown) in tiles.items()} == {
        "test_accuracy": "97.31 %",
        "parameters": "312,340",
        "energy_mj": "3.8 µJ",
        "spikes_per_image": "10,842",
        "noise_accuracy": "86.19 %",
    }
    assert {key: float(value) for key, (value, _) in tiles.items()} == {key: getattr(summary, key) for key in tiles}
    assert "± 3.62 % standard error, of 20 images never trained on; mean of the classes 95.00 %" in text
    assert "of 802,000 plain = 38.9 %" in text and "247 µJ with building W" in text


def test_what_the_run_was_is_told_and_nothing_else(text):
    for said in (
        "The classes are uneven: '0' has 40 training images, 4.0 times as many as '1' with 10.",
        "1 of 6 candidates failed",
        "1 × failed: RuntimeError: <b>loss</b>",
        "CMA-ES searched 18 genes (wiring). The search started",
        "The search started at the analytic wiring.",
        "resnet19 (pre-activation blocks) at 0.25 of the paper's width",
        "The sums of the residual blocks cost 1.2 µJ more",
        "20,000 effective MACs and 1,234,567 effective ACs of 9,876,543 dense synaptic operations",
        "activation sparsity 85.6 %, connection sparsity 0.0 %; footprint 1,250,000 bytes with genes, 3,210,000 with",
        "in 0 of 16 encoded layers",
    ):
        assert said in text
    for word in ("cored again", "of shape", "Defects of hardware"):
        assert word not in text


def test_summary_file_is_what_is_returned_and_leads_to_the_run_in_mlflow(default):
    root, summary, html = default
    content = (root / "reports/summary.json").read_bytes()
    assert list(json.loads(content).items()) == list(summary.values().items())
    result = hashlib.sha256(content).hexdigest()[:12]
    links = [attributes["href"] for tag, attributes in Page(html).tags if tag == "a"]
    assert [unquote(link) for link in links] == [f"{MLFLOW}tags.\"gee.result\" = '{result}'"]
    assert f"search the experiment for tags.\"gee.result\" = '{result}'" in Page(html).text


def test_same_inputs_give_the_same_bytes(default, tmp_path):
    assert make(tmp_path)[1] == default[2]


def test_hostile_names_and_titles_are_text_and_the_page_loads_nothing(tmp_path):
    title = "</title><script>alert(2)</script>"
    _, html = make(tmp_path, changed(report={"title": title}), classes=HOSTILE)
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "b"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert title in page.text and HOSTILE[1] in page.text
    assert "=cmd|x 100.0 % 2 –" in text_of(html) and "'=cmd" not in page.text
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:")) or (tag == "a" and target.startswith(MLFLOW)), (tag, target)
    assert not re.search(r"@import|url\((?!#)", html)


def test_headings_are_in_order_and_tables_have_scopes(default):
    tags = Page(default[2]).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in tags if tag == "svg")
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_plain_network_and_a_variant_without_a_search_show_no_search(tmp_path, no_figures):
    html = make(tmp_path, changed(evolve={"variant": "random"}), n_generations=1, population=1, epochs=1)[1]
    assert "does not search" in html and "Best fitness" not in html and "gene mattered" not in html
    summary, html = make(tmp_path, PLAIN, plain=True)
    text = text_of(html)
    assert summary.best_fitness is None and summary.n_genes is None
    assert "nothing to evolve" in text and "all weights are plain" in text and "winner’s" not in text
    assert "nan" not in text.split() and "shaped by" not in text
    shaped = changed(PLAIN, network={"init": Shape(beta=0.5)})
    assert "He’s initialisation, shaped by network.init ." in text_of(make(tmp_path, shaped, plain=True)[1])


def test_a_hundred_classes_have_the_least_recognised_first(tmp_path, no_figures):
    _, html = make(tmp_path, classes=[f"class {i}" for i in range(100)])
    text = text_of(html)
    assert "in 100 classes" in text
    assert "Class Recognised of images Most often called class 0 50.0 % 2 class 1 class 1 100.0 % 2 – class 2" in text
    least, everything = text.split("Least recognised classes")[1].split("All 100 classes, the least recognised first")
    assert "class 9 100.0 %" in least and "class 10 100.0 %" not in least and "class 99 100.0 %" in everything


def test_all_parameters_are_shown_as_they_can_be_read_back(tmp_path, no_figures):
    page = Page(make(tmp_path)[1])
    shown = next(text for text in page.texts if text.startswith("base:\n  seed: "))
    (tmp_path / "params.yaml").write_text(shown)
    assert load_params(tmp_path / "params.yaml") == PARAMS


def test_wiring_stands_next_to_the_analytic_one(text):
    sigma_O = analytic_genotype([32] * 7 + [64] * 6 + [128] * 4, 24).sigma_O
    assert f"σ_O 0.123 {sigma_O:.4g} – standard deviation of O" in text
    assert "σ_16 0.1" in text and "18 genes" in text


def test_genes_of_shape_stand_next_to_their_neutral_values(tmp_path, no_figures):
    text = text_of(make(tmp_path, SHAPE)[1])
    won = pd.read_csv(tmp_path / "reports/evolve/candidates.csv").query("winner")
    for symbol, gene, neutral in [("ω_O", "omega_O", 0), ("β", "beta", 0), ("τ", "tau", 2)]:
        assert f"{symbol} {won[gene].item():.4g} {neutral} " in text
    assert "0 0 … 1 flatness of O’s singular values" in text
    assert "4 genes (shape, tau)." in text
    path = tmp_path / "models/evolve/genotype.json"  # of a gene that only network.init shapes
    path.write_text(json.dumps(json.loads(path.read_text()) | {"searched": ["tau"]}))
    assert "0 – flatness of O’s singular values" in made_again(tmp_path)


def test_the_genes_that_the_search_could_have_done_without_are_named(tmp_path, no_figures):
    text = text_of(make(tmp_path, SHAPE, n_generations=4, population=5, failed=[])[1])
    assert "Which gene mattered Over 20 candidates." in text
    path = tmp_path / "reports/evolve/candidates.csv"
    table = pd.read_csv(path)
    wave = pd.Series([0, 1, 1, 0] * 5)
    table.assign(final_fitness=range(20), tau=range(20), beta=wave, omega_O=wave + 1, omega_X=0.5).to_csv(path, index=False)
    said = "The search could have done without omega_O and beta: |ρ| is below two standard errors."
    assert said in (text := made_again(tmp_path, SHAPE)) and "omega_X never varied." in text
    table.assign(**dict.fromkeys(["final_fitness", "tau", "beta", "omega_O", "omega_X"], range(20))).to_csv(path, index=False)
    assert "Each gene mattered" in (text := made_again(tmp_path, SHAPE)) and "never varied" not in text


@pytest.mark.parametrize("failed", [[], [6]])
def test_what_was_scored_again_has_its_mean_spread_and_failures(tmp_path, no_figures, failed):
    text = text_of(make(tmp_path, SHAPE, rescored=["0-1", "0-0", "mean"], failed=failed)[1])
    rows = pd.read_csv(tmp_path / "reports/evolve/candidates.csv")
    won = rows.loc[rows["winner"], "rescored"].item()
    for name, shown in [("0-1", "0-1"), ("0-0", "0-0, the start"), ("mean", "mean of CMA-ES")]:
        F = rows.loc[rows["rescored"] == name, "final_fitness"]
        mark = ", the winner" if name == won else ""
        assert f"{shown}{mark} {F.mean():.4g} {F.std():.2g} 3 {F.isna().sum()} " in text
    assert "scored again on 3 fresh draws, and the least mean F won" in text and "the best of its 3 fresh draws, seed 1" in text
    assert "less a reward for R_T and R_S, with the λ of the last generation." in text
    assert "candidates failed" not in text  # those of the search
    start = next(row for row in rescored_table(rows) if row["start"])
    gained = f"The search gained {start['gain']:.2g} ± {start['error']:.2g} over its start"
    told = f"{gained}." if start["certain"] else f"{gained}, which may be chance."
    assert (told if won != "0-0" else "The search found nothing better than its start.") in text


def test_a_random_search_and_draws_that_all_failed_are_told(tmp_path, no_figures):
    text = text_of(make(tmp_path, changed(SHAPE, evolve={"variant": "random_search"}), rescored=["0-0"])[1])
    assert "0-0, the start, the winner " in text and "Random search drew 4 genes" in text and "The search started" in text
    text = text_of(make(tmp_path, SHAPE, rescored=["0-1"], failed=[6, 7, 8])[1])
    assert "the winner of the search stands" in text and "nan" not in text.split()


def test_each_defect_of_hardware_that_was_measured_has_its_panel_and_the_others_their_reason(tmp_path):
    write_inputs(tmp_path, hardware=HARDWARE_ROWS)
    path = tmp_path / "reports/robustness/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hardware_left_out": {"genes": "the network is <plain>"}}))
    text = made_again(tmp_path)
    assert "Noise on weights" in text and "Lost steps" in text
    assert "Dropped spikes" not in text and "genes is left out: the network is <plain>." in text


def refused(root: Path, message: str, params=PARAMS) -> None:
    with pytest.raises(InputError, match=message):
        run(params, root / "reports", root / "models", root / "prepared")
    assert not (root / "reports/summary.json").exists() and not (root / "reports/index.html").exists()


def test_a_missing_or_damaged_file_is_named_and_nothing_is_written(tmp_path):
    files = ["prepared/meta.json", "models/evolve/genotype.json", "reports/evolve/candidates.csv", "reports/train/history.csv"]
    files += [f"reports/evaluate/{name}" for name in ("layers.csv", "confusion.csv", "exit.csv", "shown.json")]
    files += [f"reports/{stage}/metrics.json" for stage in ("evolve", "evaluate", "robustness", "export")]
    write_inputs(tmp_path)
    for name in (*files, "reports/robustness/noise.csv", "reports/robustness/hardware.csv"):
        path = tmp_path / name
        before = path.read_bytes()
        for damage in (path.unlink, lambda path=path: path.write_bytes(b"\xff\xfe\x00")):
            damage()
            refused(tmp_path, rf"^[^\n]*{re.escape(name)}: [^\n]*dvc repro")
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("models/evolve/genotype.json", lambda text: text.replace("0.123", '"wide"', 1), r"damaged \(genes[^\n]*dvc repro"),
        ("reports/robustness/noise.csv", lambda text: text.replace("accuracy", "x"), r"damaged \(it lacks accuracy\)"),
        (
            "reports/evaluate/layers.csv",
            lambda text: text.replace("9000", "many"),
            r"damaged \(its column macs holds text\)",
        ),
        ("reports/train/history.csv", lambda text: text.partition("\n")[0], r"damaged \(it has no rows\)"),
    ],
)
def test_a_file_of_other_content_is_refused(tmp_path, name, change, message):
    write_inputs(tmp_path)
    (tmp_path / name).write_text(change((tmp_path / name).read_text()))
    refused(tmp_path, rf"{re.escape(name)}: {message}")


def test_a_genotype_of_another_network_is_refused(tmp_path):
    write_inputs(tmp_path)
    other = changed(network={"name": "cifarnet", "block": None})
    refused(tmp_path, r"genotype.json: a genotype of another network [^\n]*dvc repro evolve", other)
