"""The page of the stage report, its summary.json, and the files that it refuses."""

import hashlib
import itertools
import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from gee_core.errors import InputError
from pipelines.project.params import load_params
from pipelines.report import run
from pipelines.reporting.verdict import track_result
from tests.pipelines.report_inputs import HARDWARE_ROWS, HOSTILE, PARAMS, PLAIN, SHAPE, Page, changed, make, write_inputs


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """(folder, summary, page) of a small run."""
    root = tmp_path_factory.mktemp("run")
    return root, *make(root)


def test_every_tile_shows_its_number_of_the_summary(default):
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


def test_the_summary_file_is_what_is_returned_and_leads_to_the_run_in_mlflow(default):
    root, summary, html = default
    content, track = (root / "reports/summary.json").read_bytes(), Mock()
    assert list(json.loads(content).items()) == list(summary.values().items())
    result = hashlib.sha256(content).hexdigest()[:12]
    assert f"tags.\"gee.result\" = '{result}'" in Page(html).text and "127.0.0.1" not in html
    track_result(summary, track)
    noted = track.note.call_args.kwargs
    assert noted["tags"]["gee.result"] == result and noted["metrics"]["test_accuracy"] == summary.test_accuracy
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(noted["metrics"])


def test_the_same_inputs_give_the_same_bytes(default, tmp_path):
    assert make(tmp_path)[1] == default[2]


def test_hostile_names_and_titles_are_text_and_the_page_loads_nothing(tmp_path):
    title = "</title><script>alert(2)</script>"
    page = Page(html := make(tmp_path, changed(report={"title": title}), classes=HOSTILE)[1])
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "b"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert title in page.text and HOSTILE[1] in page.text and "=cmd|x" in page.text and "'=cmd" not in page.text
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
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


@pytest.mark.parametrize(
    ("params", "inputs"),
    [
        (PLAIN, {"plain": True}),
        (changed(evolve={"variant": "random"}), {"n_generations": 1, "population": 1, "epochs": 1}),
        (changed(SHAPE, evolve={"variant": "random_search"}), {"rescored": ["0-0"]}),
        (SHAPE, {"rescored": ["0-1"], "failed": [6, 7, 8]}),
        (SHAPE, {"rescored": ["0-1", "0-0", "mean"], "failed": [6], "hardware": HARDWARE_ROWS}),
    ],
    ids=["plain", "without a search", "random search", "all draws failed", "scored again"],
)
def test_a_page_of_every_kind_of_search_has_no_number_that_is_missing(tmp_path, no_figures, params, inputs):
    summary, html = make(tmp_path, params, **inputs)
    assert "nan" not in Page(html).text.split()
    assert (summary.best_fitness is None) == (summary.n_genes is None) == ("plain" in inputs)


def test_under_a_budget_the_page_compares_with_what_was_narrowed(tmp_path, no_figures):
    write_inputs(tmp_path, params=SHAPE)
    trained = {"test_accuracy": 0.9611, "energy_mj": 0.0019, "parameters": 54_321}
    names = ("start", "narrowed", "narrowed_plain")
    for stage, values in (
        ("plain", {f"{name}_{measure}": value for name in names for measure, value in trained.items()}),
        ("evolve", {"limit_energy_uj": 4.0}),
    ):
        path = tmp_path / f"reports/{stage}/metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
    run(SHAPE, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    text = Page((tmp_path / "reports/index.html").read_text()).text
    assert "+1.2 points of accuracy over its start narrowed" in text and "3.8 of 4" in text
    assert "plain start of the search start, narrowed plain, narrowed" in text and text.count("54,321") == len(names)


def test_all_parameters_are_shown_as_they_can_be_read_back(default, tmp_path):
    shown = next(text for text in Page(default[2]).texts if text.startswith("base:\n  seed: "))
    (tmp_path / "params.yaml").write_text(shown)
    assert load_params(tmp_path / "params.yaml") == PARAMS


def refuse(root: Path, message: str, params=PARAMS) -> None:
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
            refuse(tmp_path, rf"^[^\n]*{re.escape(name)}: [^\n]*dvc repro")
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "before", "after", "message"),
    [
        ("models/evolve/genotype.json", "0.123", '"wide"', r"damaged \(genes[^\n]*dvc repro"),
        ("reports/robustness/noise.csv", "accuracy", "x", r"damaged \(it lacks accuracy\)"),
        ("reports/evaluate/layers.csv", "9000", "many", r"damaged \(could not convert string to float: 'many'\)"),
        ("reports/evaluate/confusion.csv", "1,1", "1,ten", r"damaged \(the images have no class 'ten'\)"),
    ],
)
def test_a_file_of_other_content_is_refused(tmp_path, name, before, after, message):
    write_inputs(tmp_path)
    (tmp_path / name).write_text((tmp_path / name).read_text().replace(before, after, 1))
    refuse(tmp_path, rf"{re.escape(name)}: {message}")


def test_a_genotype_of_another_network_is_refused(tmp_path):
    write_inputs(tmp_path)
    other = changed(network={"name": "cifarnet", "block": None})
    refuse(tmp_path, r"genotype.json: a genotype of another network [^\n]*dvc repro evolve", other)
