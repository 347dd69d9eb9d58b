"""A search under a budget through the stage: its files, its resumption, and what it notes."""

import json

import pandas as pd
import pytest
import torch

from gee_core.config.evolve import Rescore
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, load_prepared, write_prepared
from gee_core.evolution.candidate import Candidate, Score, failed
from gee_core.storage.csv_rows import csv_text
from gee_core.storage.json_object import read_json_model
from pipelines import evolve
from pipelines.inputs.genotype_file import Controls
from tests.pipelines.conftest import write_params
from tests.pipelines.test_evolve_stage import contents, run_main

NARROWED = {"variant": "baseline", "genes": ["width", "n_genes", "v_threshold"], "budget": {"energy": 0.5, "ratio": 0.45}}
NARROWED |= {"population_size": 4, "n_generations": 2, "rescore": Rescore(top=2, draws=1)}
pytestmark = pytest.mark.usefixtures("here_and_now")


def made_up(task, c: Candidate) -> Score:
    """A training of a tenth more energy, in which a low threshold loses less."""
    return Score(1 + dict(c.genotype.settings)["v_threshold"], energy_uj=1.1 * c.price.energy_uj, proxy_accuracy=0.5)


def test_the_stage_leaves_the_start_and_what_was_narrowed_beside_a_winner_within(
    in_project, make_params, here_and_now, monkeypatch
):
    monkeypatch.setattr(here_and_now, "score", made_up)
    folder = in_project(evolve=NARROWED)
    noted = run_main(folder)
    before = contents(folder)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", keep_default_na=False)
    metrics = json.loads((folder / "reports/evolve/metrics.json").read_text())
    limits = metrics["limit_energy_uj"], metrics["limit_parameters"]
    assert (rows.counted_uj <= limits[0]).all() and (rows.parameters <= limits[1]).all() and metrics["n_outside"] == 0
    again = rows[rows.rescored != ""]
    assert (1.03 * again.counted_uj / limits[0] > 1.0).sum() == 0 and {"0-0", "mean"} <= {*again.rescored}
    controls = read_json_model(folder / "models/evolve/controls.json", Controls)
    network = make_params(evolve=NARROWED).network
    assert (controls.start.genes["width"], controls.start.genes["n_genes"]) == (network.width, network.n_genes)
    start = again[again.rescored == "0-0"].iloc[0]
    assert controls.narrowed.genes["width"] == start.width < network.width and controls.narrowed.seed == start.seed
    assert controls.narrowed_plain.genes.keys() == {"width"} and controls.narrowed_plain.n_genes is None
    assert {row["metrics"]["counted_uj"] for row in noted.candidates} == {*rows.counted_uj}
    here_and_now.scored.clear()
    run_main(folder)
    assert (here_and_now.scored, contents(folder)) == ([], before)
    write_params(folder / "params.yaml", make_params(evolve=NARROWED | {"budget": None}))
    monkeypatch.setattr(here_and_now, "score", lambda task, c: Score(1.0, proxy_accuracy=0.5))
    evolve.main()
    assert not (folder / "models/evolve/controls.json").exists()


def test_a_random_search_ends_where_a_repeated_candidate_has_no_fresh_fitness(in_project, here_and_now, monkeypatch):
    def start_fails_again(task, c):
        return failed("x") if (c.rescored, c.draw) == ("0-0", 1) else made_up(task, c)

    monkeypatch.setattr(here_and_now, "score", start_fails_again)
    noted = run_main(in_project(evolve=NARROWED | {"variant": "random_search", "rescore": Rescore(top=2, draws=2)}))
    with_mean = {name for name, marks in noted.ranked.items() if "fresh_fitness" in marks}
    assert {"rescore-0-0-draw0", "rescore-0-0-draw1"} <= {*noted.names} and len(with_mean) == 1 + 2
    assert "gen0-cand0" not in with_mean and noted.ranked["gen0-cand0"]["rank"] == 2  # behind that with one
    assert noted.won[-1] in with_mean


def test_a_candidate_outside_has_a_row_and_is_neither_failed_nor_ranked(in_project, here_and_now, monkeypatch):
    monkeypatch.setattr(here_and_now, "score", made_up)
    searched = NARROWED | {"genes": ["n_genes", "v_threshold"], "budget": {"bytes": 12_000}, "sigma": 0.5}
    folder = in_project(evolve=searched | {"variant": "random_search"})
    noted = run_main(folder)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", keep_default_na=False)
    outside = rows[rows.bytes > 12_000]
    assert 0 < len(outside) < len(rows) and outside.status.str.startswith("outside: bytes = ").all()
    assert len(outside) == len(rows) - len(here_and_now.scored)
    names = [f"gen{g}-cand{i}" for g, i in zip(outside.generation, outside["index"], strict=True)]
    assert [noted.ranked[name] for name in names] == [{}] * len(names)
    assert {row["status"] for row in noted.candidates} == {"FINISHED"}
    metrics = json.loads((folder / "reports/evolve/metrics.json").read_text())
    assert (metrics["n_failed"], metrics["n_outside"], metrics["limit_bytes"]) == (0, len(outside), 12_000)
    controls = read_json_model(folder / "models/evolve/controls.json", Controls)
    assert controls.narrowed_plain is None and controls.narrowed.genes == controls.start.genes


def test_no_choice_depends_on_the_test_images(digits, make_params, tmp_path):
    data, params, tables = load_prepared(digits), make_params(evolve=NARROWED | {"n_generations": 1}), []
    black = PackedImages(torch.zeros_like(data.test.images), data.test.labels)
    source = Source("digits", data.meta.class_names, data.train, black, data.holdout)
    write_prepared(tmp_path / "black", "digits", source, data.meta.mean, data.meta.std)
    for prepared in (digits, tmp_path / "black"):
        (folder := tmp_path / f"run-{len(tables)}").mkdir()
        found = evolve.run(params, prepared, folder)
        tables.append(csv_text(evolve.table(found.records, found.best, params)))
    assert tables[0] == tables[1]
