"""Files of a small run, as the stages before report write them, and the page that report makes of them."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.project.params import load_params
from pipelines.report import run

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
    meta = {"class_names": classes, "num_classes": len(classes), "in_channels": 1, "image_size": 8, "mean": [0.3], "std": [0.4]}
    meta |= {"dataset": "digits", "source": "scikit-learn digits", "stream": False}
    files = ["holdout.npy", *(f"{split}_{what}.npy" for split in ("train", "test") for what in ("images", "labels"))]
    counts = {"n_train": 1437, "n_test": 2 * len(classes), "n_holdout": 287}
    put("prepared/meta.json", meta | counts | {"sha256": dict.fromkeys(files, "0")})
    if plain:
        put("reports/evolve/candidates.csv", pd.DataFrame(columns=["generation", "index", "status", "fitness"]))
        put("reports/evolve/metrics.json", {"n_candidates": 0})
        empty = dict.fromkeys(["sigma_O", "sigma_X", "generation", "index", "fitness"])
        put("models/evolve/genotype.json", {"network": "resnet19", "n_genes": None, "form": "per_layer", "seed": 1} | empty)
    else:
        table = candidates(n_generations, population)
        put("reports/evolve/candidates.csv", table)
        best = {"best_fitness": 0.25, "best_L_ce": 0.5, "best_proxy_accuracy": 0.75, "n_candidates": len(table)}
        put("reports/evolve/metrics.json", best)
        sigmas = {"sigma_O": 0.123, "sigma_X": [0.1] * L, "seed": 1, "generation": 0, "index": 0, "fitness": 0.25}
        put("models/evolve/genotype.json", {"network": "resnet19", "n_genes": 24, "form": "per_layer"} | sigmas)
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
