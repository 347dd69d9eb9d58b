"""Files of a small run, as the stages before report write them, and the page that report makes of them."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from gee_core.config import Shape
from gee_core.config.evolve import Rescore
from gee_core.config.genes import GENES
from gee_core.storage.csv_rows import csv_text
from pipelines.project.params import load_params
from pipelines.report import run

COMMITTED = load_params(Path(__file__).parents[2] / "params.yaml")
L = 17
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "NA",
    "=cmd|x",
    "1",
    "1.0",
    "$x$",
    "",
    "a\nb",
    "null",
]


HARDWARE_ROWS = [
    *(("weights", s, draw, a - 0.02 * draw) for s, a in ((0.0, 0.9), (0.5, 0.8), (1.0, 0.5)) for draw in range(3)),
    *(("lost_step", s, 0, a) for s, a in ((0, 0.9), (1, 0.7))),
]
"""Of hardware.csv."""


def changed(params=None, **sections):
    params = params or PARAMS
    updates = {name: getattr(params, name).model_copy(update=values) for name, values in sections.items()}
    return params.model_copy(update=updates)


PARAMS = changed(
    COMMITTED,
    network={"name": "resnet19", "block": "pre", "width": 0.25, "n_genes": 24, "neuron": "lif", "levels": None, "T": 4},
    prepare={"dataset": "digits"},
    evolve={"variant": "ste", "genes": ["wiring"], "bound": 4.0, "rescore": None, "budget": None},
    train={"epochs": 3},
    robustness={"domain": "image"},
)
PLAIN = changed(network={"n_genes": None}, evolve={"variant": "analytic"})


SHAPE = changed(evolve={"genes": ["shape", "tau"], "rescore": Rescore(top=2, draws=3)})
PLAIN_COLUMNS = ["generation", "index", "rescored", "seed", "status", "winner", "fitness"]
NEUROBENCH = {"footprint": 1_250_000, "footprint_decoded": 3_210_000, "connection_sparsity": 0.0, "activation_sparsity": 0.8563}
NEUROBENCH |= {"effective_macs": 20_000.4, "effective_acs": 1_234_567.0, "dense_synops": 9_876_543.0}
MEASURED = ["fitness", "final_fitness", "L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy"]


def candidates(n_generations=3, population=4, params=None, failed=(), rescored=(), draws=3):
    """A candidates.csv of a search as ``params`` say, of a ResNet-19; ``rescored`` are names: "generation-index" or "mean"."""
    params, rng = params or PARAMS, np.random.default_rng(0)
    places = [(t, i, "") for t in range(n_generations) for i in range(population)]
    places += [(n_generations, i, name) for i, name in enumerate(name for name in rescored for _ in range(draws))]
    rows, genes = [], {}
    for t, i, name in places:
        key = name or f"{t}-{i}"
        F, last = rng.uniform(0.4, 0.9) - 0.05 * t, n_generations - 1
        row = {"generation": t, "index": i, "rescored": name, "seed": i, "status": "ok"}
        row |= {"winner": False, "fitness": F}
        row |= {"final_fitness": F + 0.01, "L_ce": F + 0.1, "TSE": F + 0.2, "R_T": 0.5 + rng.random(), "var_o": 2.0, "R_S": 0.9}
        row |= {"lambda": math.exp(-min(t, last) / 2), "proxy_accuracy": 1 - F, "epochs": 2, "image_passes": 100}
        drawn = {"sigma_O": rng.uniform(0.1, 0.3)} | {f"sigma_{layer}": rng.uniform(0.1, 0.2) for layer in range(L)}
        if params.evolve.genes != ["wiring"]:
            drawn |= {gene: rng.uniform(GENES[gene].low, GENES[gene].high) for gene in params.searched_genes()}
        row |= genes.setdefault(key, Shape().model_dump() | drawn)
        rows.append(row)
    table = pd.DataFrame(rows)
    table.loc[list(failed), MEASURED] = np.nan
    table.loc[list(failed), "status"] = "failed: RuntimeError: <b>loss</b>"
    means = table[table["rescored"] != ""].groupby("rescored")["final_fitness"].mean().dropna()
    best = table[table["rescored"] == (means.idxmin() if len(means) else "")]["final_fitness"]
    if best.notna().any():
        table.loc[best.idxmin(), "winner"] = True
    return table


def write_inputs(root, classes=tuple("0123456789"), params=None, plain=False, epochs=3, hardware=(), **search):
    def put(path, values):
        path = root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        is_table = isinstance(values, pd.DataFrame)
        path.write_bytes((values.to_csv(index=False) if is_table else json.dumps(values)).encode())

    classes = list(classes)
    meta = {"class_names": classes, "num_classes": len(classes), "in_channels": 1, "image_size": 8, "mean": [0.3], "std": [0.4]}
    meta |= {
        "class_counts": [40, *[10] * (len(classes) - 1)],
        "dataset": "digits",
        "source": "scikit-learn digits",
        "stream": False,
    }
    files = ["holdout.npy", *(f"{split}_{what}.npy" for split in ("train", "test") for what in ("images", "labels"))]
    counts = {"n_train": 1437, "n_test": 2 * len(classes), "n_holdout": 287}
    put("prepared/meta.json", meta | counts | {"sha256": dict.fromkeys(files, "0")})
    if plain:
        put("reports/evolve/candidates.csv", pd.DataFrame(columns=PLAIN_COLUMNS))
        put("reports/evolve/metrics.json", {"n_candidates": 0})
        put("models/evolve/genotype.json", {"network": "resnet19", "width": 0.25, "n_genes": None, "genes": {}, "seed": 1})
    else:
        size = {"n_generations": 2, "population": 3} | search
        size = {"failed": [1] if size["population"] > 1 else []} | size
        table = candidates(**size, params=params)
        put("reports/evolve/candidates.csv", table)
        n_rescored = int((table["rescored"] != "").sum())
        best = {"best_fitness": 0.25, "best_L_ce": 0.5, "best_proxy_accuracy": 0.75}
        put("reports/evolve/metrics.json", best | {"n_candidates": len(table) - n_rescored, "n_rescored": n_rescored})
        won = table[table["winner"]].iloc[0]
        genes = {"sigma_O": 0.123} | {f"sigma_{layer}": 0.1 for layer in range(L)}
        genes |= {gene: won[gene] for gene in GENES if gene in won and gene != "sigma_O"}
        place = {"seed": 1, "generation": int(won["generation"]), "index": int(won["index"]), "fitness": 0.25}
        about = {"network": "resnet19", "width": 0.25, "n_genes": (params or PARAMS).network.n_genes}
        about["searched"] = (params or PARAMS).searched_genes()
        put("models/evolve/genotype.json", about | {"genes": genes} | place)
    put("reports/train/history.csv", pd.DataFrame({"epoch": range(epochs), "train_loss": 1.0, "train_accuracy": 0.5}))
    put("reports/plain/metrics.json", {} if plain else {"plain_test_accuracy": 0.9876, "plain_energy_mj": 0.0033})
    layer = {"kind": "conv", "input_rate": 0.1, "binary": True, "macs": 9000, "energy_mj": 1e-4, "output_rate": np.nan}
    built = {"decode_macs": 0, "decode_energy_mj": np.nan} if plain else {"decode_macs": 1000, "decode_energy_mj": 1e-3}
    stem = {"layer": "stem.conv", "decode_macs": 0, "decode_energy_mj": np.nan}
    body = [layer | built | {"layer": f"body.{i}"} for i in range(L - 1)]
    put("reports/evaluate/layers.csv", pd.DataFrame([layer | stem, *body]))
    wrong = classes[1:2] + classes[1:]
    pairs = [{"actual": actual, "predicted": name} for actual, name in zip(classes * 2, classes + wrong, strict=True)]
    (root / "reports/evaluate/confusion.csv").write_bytes(csv_text(pairs).encode())
    left = {"confidence": [0.9], "accuracy": [0.9654], "mean_steps": [1.37], "energy_mj": [0.0019]}
    put("reports/evaluate/exit.csv", pd.DataFrame(left))
    answer = {"picture": "iVBORw0KGgo=", "actual": classes[0], "predicted": classes[1], "probability": 0.6}
    spikes, maps = (
        {"stem.conv": [[0, 1, 0, 1], [1] * 4], "body.0": [[0] * 4]},
        {"O": [[0.1, -0.2]], "X_1": [[1.0]], "W_1": [[0.0]]},
    )
    put("reports/evaluate/shown.json", {"answers": [answer], "spikes": spikes, "maps": maps, "machine": "A CPU; torch 2"})
    size = {"parameters": 312_340, "plain_parameters": 802_000, "energy_mj": 0.0038, "energy_with_decoding_mj": 0.247}
    size |= {"energy_of_sums_mj": 0.0012}
    put(
        "reports/evaluate/metrics.json",
        size | {"test_accuracy": 0.9731, "test_loss": 0.1, "spikes_per_image": 10842.3, "firing_rate": 0.1437} | NEUROBENCH,
    )
    put("reports/robustness/noise.csv", pd.DataFrame({"domain": "image", "r": [0, 0.5], "seed": 0, "accuracy": [0.97, 0.86]}))
    put("reports/robustness/hardware.csv", pd.DataFrame(hardware, columns=["domain", "strength", "draw", "accuracy"]))
    put("reports/robustness/metrics.json", {"noise_accuracy": 0.8619, "clean_accuracy": 0.9731})
    put(
        "reports/export/metrics.json",
        {"max_abs_difference": 0.0, "agreement": 1.0, "onnx_bytes": 3_212_345}
        | {"nir_agreement": 1.0, "nir_spike_agreement": 1.0, "nir_bytes": 1_523_000},
    )


def make(root, params=PARAMS, **inputs):
    write_inputs(root, params=params, **inputs)
    summary, *_ = run(params, root / "reports", root / "models", root / "prepared")
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
