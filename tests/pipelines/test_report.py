import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gee_core.errors import InputError
from gee_core.genome.wiring import analytic_genotype
from gee_core.model.network import build_network, count_parameters
from pipelines.project.params import load_params
from pipelines.report import as_yaml, confusions, network_shape, paper_rows, run

COMMITTED = load_params(Path(__file__).parents[2] / "params.yaml")
L = 17
HOSTILE = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "NA", "1", "1.0", "$x$", "", "a\nb", "null"]


def changed(params=None, **sections):
    params = params or PARAMS
    updates = {name: getattr(params, name).model_copy(update=values) for name, values in sections.items()}
    return params.model_copy(update=updates)


PARAMS = changed(
    COMMITTED,
    network={"name": "resnet19", "width": 0.25, "n_genes": 24},
    prepare={"dataset": "digits"},
    evolve={"variant": "ste", "genotype": "per_layer"},
    train={"epochs": 3},
    robustness={"domain": "image"},
)
PLAIN = changed(network={"n_genes": None}, evolve={"variant": "analytic"})


def candidates(n_generations, population):
    rng = np.random.default_rng(0)
    rows = []
    for t in range(n_generations):
        for i in range(population):
            row = {"generation": t, "index": i, "seed": i, "status": "ok", "fitness": rng.random(), "L_ce": 1.0}
            row |= {"R_T": 0.5, "R_S": 0.9, "lambda": math.exp(-t / 2), "proxy_accuracy": rng.random(), "epochs": 2}
            rows.append(row | {"sigma_O": 0.1} | {f"sigma_{layer}": 0.1 + 0.1 * rng.random() for layer in range(L)})
    table = pd.DataFrame(rows)
    if len(table) > 1:
        table.loc[1, ["fitness", "L_ce", "R_T", "R_S", "proxy_accuracy"]] = np.nan
        table.loc[1, "status"] = "failed: RuntimeError: <b>loss</b>"
    return table


def write_inputs(root, classes=tuple("0123456789"), n_generations=2, population=3, plain=False, epochs=3):
    def put(path, values):
        path = root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        is_table = isinstance(values, pd.DataFrame)
        path.write_bytes((values.to_csv(index=False) if is_table else json.dumps(values)).encode())

    classes = list(classes)
    meta = {"class_names": classes, "num_classes": len(classes), "in_channels": 1, "image_size": 8}
    put("prepared/meta.json", meta | {"dataset": "digits", "n_train": 1437, "n_test": 2 * len(classes)})
    if plain:
        put("reports/evolve/candidates.csv", pd.DataFrame(columns=["generation", "index", "status", "fitness"]))
        put("reports/evolve/metrics.json", {"n_candidates": 0})
        empty = dict.fromkeys(["sigma_O", "sigma_X", "generation", "index", "fitness"])
        put("models/evolve/genotype.json", {"network": "resnet19", "n_genes": None, "seed": 1} | empty)
    else:
        table = candidates(n_generations, population)
        put("reports/evolve/candidates.csv", table)
        best = {"best_fitness": 0.25, "best_L_ce": 0.5, "best_proxy_accuracy": 0.75, "n_candidates": len(table)}
        put("reports/evolve/metrics.json", best)
        sigmas = {"sigma_O": 0.123, "sigma_X": [0.1] * L, "seed": 1, "generation": 0, "index": 0, "fitness": 0.25}
        put("models/evolve/genotype.json", {"network": "resnet19"} | sigmas)
    put("reports/train/history.csv", pd.DataFrame({"epoch": range(epochs), "train_loss": 1.0, "train_accuracy": 0.5}))
    layer = {"kind": "conv", "input_rate": 0.1, "binary": True, "macs": 9000, "energy_mj": 1e-4, "output_rate": np.nan}
    decode = np.nan if plain else 1e-3
    put("reports/evaluate/layers.csv", pd.DataFrame([layer | {"layer": "body.0", "decode_energy_mj": decode}]))
    wrong = classes[1:2] + classes[1:]
    put("reports/evaluate/confusion.csv", pd.DataFrame({"actual": classes * 2, "predicted": classes + wrong}))
    size = {"parameters": 312_340, "plain_parameters": 802_000, "energy_mj": 0.0038, "energy_with_decoding_mj": 0.247}
    put(
        "reports/evaluate/metrics.json",
        size | {"test_accuracy": 0.9731, "spikes_per_image": 10842.3, "firing_rate": 0.1437},
    )
    put(
        "reports/robustness/noise.csv",
        pd.DataFrame({"domain": "image", "r": [0, 0.5], "seed": 0, "accuracy": [0.97, 0.86]}),
    )
    put("reports/robustness/metrics.json", {"noise_accuracy": 0.8619, "clean_accuracy": 0.9731})
    put("reports/export/metrics.json", {"max_abs_difference": 0.0, "agreement": 1.0, "onnx_bytes": 3_212_345})


def make(root, params=PARAMS, **inputs):
    write_inputs(root, **inputs)
    summary = run(params, root / "reports", root / "models", root / "prepared")
    return summary, (root / "reports/index.html").read_bytes().decode()


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """(folder, summary, page) of a small run."""
    root = tmp_path_factory.mktemp("run")
    return root, *make(root)


@pytest.fixture
def no_figures(monkeypatch):
    """Pages with empty figures, for what stands in the text."""
    names = ("training", "energy", "noise", "confusion", "fitness", "plane", "components", "wiring")
    monkeypatch.setattr("pipelines.report.draw", lambda *_: dict.fromkeys(names, "<svg></svg>"))


class Page(HTMLParser):
    """Tags with their attributes, visible text, and the tiles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.tiles, self._key = [], [], {}, None
        html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "data":
            self._key = dict(attributes)["data-key"]
            self.tiles[self._key] = (dict(attributes)["value"], "")

    def handle_endtag(self, tag):
        self._key = None if tag == "data" else self._key

    def handle_data(self, data):
        self.texts.append(data)
        if self._key:
            self.tiles[self._key] = (self.tiles[self._key][0], data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


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
    assert {key: float(value) for key, (value, _) in tiles.items()} == {key: summary[key] for key in tiles}
    assert "of 802,000 plain = 38.9 %" in Page(html).text and "247 µJ with building W" in Page(html).text


def test_summary_file_is_what_is_returned(default):
    root, summary, _ = default
    written = json.loads((root / "reports/summary.json").read_text())
    assert written == summary and list(written) == list(summary)


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
            assert target.startswith(("#", "data:")), (tag, target)
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


def test_failed_candidates_are_counted_and_their_reasons_escaped(default):
    text = Page(default[2]).text
    assert "1 of 6 candidates failed" in text and "1 × failed: RuntimeError: <b>loss</b>" in text


def test_a_variant_that_does_not_search_has_no_figures_of_the_search(tmp_path):
    _, html = make(tmp_path, changed(evolve={"variant": "random"}), n_generations=1, population=1, epochs=1)
    assert "does not search" in html and "Best fitness" not in html and "The wiring against" in html


def test_a_plain_network_has_nothing_to_evolve(tmp_path):
    summary, html = make(tmp_path, PLAIN, plain=True)
    text = Page(html).text
    assert summary["best_fitness"] is None and summary["n_genes"] is None
    assert "nothing to evolve" in text and "all weights are plain" in text and "winner’s" not in text
    assert "nan" not in text.split()


def test_a_hundred_classes_fit(tmp_path):
    _, html = make(tmp_path, classes=[f"class {i}" for i in range(100)])
    assert "in 100 classes" in Page(html).text and len(html) < 600_000


@pytest.mark.parametrize(
    "name",
    [
        "prepared/meta.json",
        "models/evolve/genotype.json",
        "reports/evolve/candidates.csv",
        "reports/train/history.csv",
        "reports/evaluate/layers.csv",
        "reports/evaluate/confusion.csv",
        "reports/robustness/noise.csv",
        "reports/export/metrics.json",
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_a_missing_or_damaged_file_is_named_and_nothing_is_written(tmp_path, name, content):
    write_inputs(tmp_path)
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^[^\n]*{re.escape(name)}: [^\n]*dvc repro"):
        run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert not (tmp_path / "reports/summary.json").exists() and not (tmp_path / "reports/index.html").exists()


def test_a_genotype_with_a_word_for_a_number_is_refused_and_nothing_is_written(tmp_path):
    write_inputs(tmp_path)
    path = tmp_path / "models/evolve/genotype.json"
    assert "0.123" in path.read_text()
    path.write_text(path.read_text().replace("0.123", '"wide"', 1))
    with pytest.raises(InputError, match=r"^[^\n]*genotype\.json: its σ's must be positive numbers[^\n]*dvc repro"):
        run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert not (tmp_path / "reports/summary.json").exists() and not (tmp_path / "reports/index.html").exists()


def test_a_genotype_of_another_network_is_refused(tmp_path):
    write_inputs(tmp_path)
    with pytest.raises(InputError, match=r"17 σ's for 8 encodings, so it is another"):
        params = changed(network={"name": "cifarnet"})
        run(params, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")


def test_all_parameters_are_shown_as_they_can_be_read_back(tmp_path):
    (tmp_path / "params.yaml").write_text(as_yaml(PARAMS))
    assert load_params(tmp_path / "params.yaml") == PARAMS
    assert as_yaml(PARAMS).startswith("base:\n  seed: ")


def test_wiring_stands_beside_the_analytic_one(default):
    text = Page(default[2]).text
    sigma_O = analytic_genotype([32] * 7 + [64] * 6 + [128] * 4, 24).sigma_O
    assert f"0.123 {sigma_O:.4g} {0.123 / sigma_O:.2f}" in text


def test_published_networks_stand_beside_their_own_plain_size(default):
    rows = {row["network"]: row["plain_parameters"] for row in paper_rows()}
    assert rows["resnet19"] == count_parameters(build_network("resnet19", 10, 3, 32)) == 12_696_458
    text = Page(default[2]).text
    assert "resnet19 100 4,352,154 12,696,458 34.3 % – 95.94 % 77.56 % – published" in text
    assert "Not comparable" in text


def test_a_run_on_the_papers_data_stands_in_the_papers_column(tmp_path, no_figures):
    text = Page(make(tmp_path, changed(prepare={"dataset": "cifar100"}))[1]).text
    assert "resnet19 × 0.25 24 312,340 802,000 38.9 % – 97.31 % – this run" in text
    assert "Compare with care" in text and "Not comparable" not in text


def test_layers_that_genes_do_not_save_on_are_counted(default, tmp_path, no_figures):
    net = network_shape(PARAMS, {"num_classes": 10, "in_channels": 1, "image_size": 8})
    assert [conv.in_channels for conv in net.conv_chain()][:3] == [1, 32, 32]
    assert "in 0 of 16 encoded layers" in Page(default[2]).text
    text = Page(make(tmp_path, changed(network={"n_genes": 40}))[1]).text
    assert "in 7 of 16 encoded layers" in text


def test_mistakes_are_ordered_by_number():
    table = pd.DataFrame({"actual": list("aabbbc"), "predicted": list("abccac")})
    assert confusions(table, ["a", "b", "c"]) == [
        {"actual": "b", "predicted": "c", "count": 2, "of": 3},
        {"actual": "a", "predicted": "b", "count": 1, "of": 2},
        {"actual": "b", "predicted": "a", "count": 1, "of": 3},
    ]
    assert confusions(table.assign(predicted=table["actual"]), ["a", "b", "c"]) == []
