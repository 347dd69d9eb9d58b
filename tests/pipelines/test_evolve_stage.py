import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipelines.runtime.resume_folder import HELD

from gee_core.config.evolve import Rescore
from gee_core.data.meta import load_meta
from gee_core.data.prepared import load_prepared
from gee_core.model.wired import architecture_of
from gee_core.storage.atomic_files import write_atomically
from gee_core.storage.json_object import read_json_model
from pipelines import evolve, train
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.search import load_start
from pipelines.runtime import journal
from tests.pipelines.conftest import write_params

GENES = ["sigma_O", *(f"sigma_{layer}" for layer in range(8))]
pytestmark = pytest.mark.usefixtures("here_and_now")


class Tracked:
    """A tracker that keeps what it is told, and what its files held when it was told."""

    def __init__(self):
        self.candidates, self.times, self.curves, self.files, self.won = [], [], [], [], None
        self.ranked, self.tagged, self.searches, self.rows = {}, {}, [], []

    def params(self, values):
        pass

    def tags(self, values):
        self.tagged |= values

    def metrics(self, values, step=None):
        self.curves.append((step, values))

    def dataset(self, meta, context):
        assert self.candidates == []
        self.data = meta.digest, context

    def search(self, key, genes, objectives):
        self.searches.append(key)

    def child(self, label, run):
        self.candidates.append((run.name, run.tags["status"], run.params, run.metrics, run.texts))
        self.times.append((run.start, run.time))
        table = Path("reports/evolve/candidates.csv")
        self.rows.append(len(table.read_text().splitlines()) - 1 if table.is_file() else 0)

    def mark(self, marks):
        self.won = sorted(name for name, (_, tags) in marks.items() if tags == {"gee.winner": "true"})
        self.ranked = {name: metrics for name, (metrics, _) in marks.items()}

    def artifact(self, path, folder=""):
        self.files.append((folder, path.name, path.read_bytes()))

    def close(self, status="FINISHED", error=""):
        assert status == "FINISHED"


def run_main(monkeypatch) -> Tracked:
    tracked = Tracked()
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: tracked)
    evolve.main()
    return tracked


def contents(folder):
    paths = [*folder.glob("models/**/*"), *folder.glob("reports/**/*")]
    return {path.relative_to(folder): path.read_bytes() for path in paths if path.is_file()}


def test_the_stage_writes_its_three_files_and_keeps_its_records_until_dvc_knows_of_them(in_project, monkeypatch, here_and_now):
    folder = in_project()
    tracked = run_main(monkeypatch)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert list(zip(rows.generation, rows["index"], strict=True)) == [(g, i) for g in range(2) for i in range(3)]
    genotype = json.loads((folder / "models/evolve/genotype.json").read_text())
    best = rows[(rows.generation == genotype["generation"]) & (rows["index"] == genotype["index"])].iloc[0]
    assert genotype["seed"] == best.seed
    np.testing.assert_array_equal([genotype["genes"][gene] for gene in GENES], best[GENES].astype(float))
    assert genotype["searched"] == GENES
    assert list(rows.index[rows.winner]) == [best.name]
    assert {path.name for path in (folder / ".scratch").rglob("*") if path.is_file()} == {
        HELD,
        "done",
        "records.jsonl",
        "values",
    }
    before = contents(folder)
    here_and_now.scored.clear()
    again = run_main(monkeypatch)  # `dvc` was killed before it wrote dvc.lock, and runs the stage again
    assert again.times == tracked.times
    assert (here_and_now.scored, contents(folder), again.searches) == ([], before, tracked.searches)
    assert tracked.rows == [*range(6)]  # the table grows with each candidate
    assert again.rows == [6, *range(1, 6)]  # and from its beginning


def test_the_stage_tracks_every_candidate_and_the_best_checkpoint_of_every_generation(in_project, make_params, monkeypatch):
    folder = in_project()
    tracked = run_main(monkeypatch)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert [name for name, *_ in tracked.candidates] == [f"gen{g}-cand{i}" for g in range(2) for i in range(3)]
    assert tracked.data == (load_meta(folder / "data/prepared").digest, "training")
    (won,) = rows[rows.winner].to_dict("records")
    assert tracked.won == [f"gen{won['generation']}-cand{won['index']}"] == [tracked.tagged["gee.best"]]
    names = [name for name, *_ in tracked.candidates]
    assert [tracked.ranked[name]["final_fitness"] for name in names] == list(rows.final_fitness) != list(rows.fitness)
    assert [tracked.ranked[name]["rank"] for name in names] == list(rows.final_fitness.rank())
    assert tracked.ranked[tracked.won[0]]["rank"] == 1
    records = journal.read(next((folder / ".scratch/evolve").glob("*/records.jsonl")))
    assert tracked.times == [tuple(round(1000 * (record["ended"] - x)) for x in (0.25, 0)) for record in records]
    for (_, status, params, metrics, artifacts), (_, row) in zip(tracked.candidates, rows.iterrows(), strict=True):
        assert (status, params["wiring_seed"], params["sigma_3"]) == ("ok", str(row.seed), str(row.sigma_3))
        assert {gene: metrics[f"gene.{gene}"] for gene in (*GENES, "beta")} == dict(row[[*GENES, "beta"]])
        assert (metrics["fitness"], metrics["seconds"]) == (row.fitness, 0.25)
        write_atomically(folder / "inputs/saved.json", artifacts["genotype.json"])
        start = load_start(make_params(evolve={"start": "inputs/saved.json"}))
        assert start.as_dict() == row["sigma_O":"beta"].to_dict()  # another search can start there
    best = rows.loc[rows.groupby("generation").fitness.idxmin()]
    names = [(g, f"gen{g}-cand{i}.safetensors") for g, i in zip(best.generation, best["index"], strict=True)]
    kept = [(to, name) for to, name, _ in tracked.files if name.endswith(".safetensors")]
    assert kept == [(f"checkpoints/generation-{g}", name) for g, name in names]
    curves = [(step, values) for step, values in tracked.curves if "generation_best/fitness" in values]
    assert [(step, values["generation_best/fitness"]) for step, values in curves] == list(enumerate(best.fitness))
    (costs,) = [values for _, values in tracked.curves if "image_passes" in values]  # one quantity under one name
    assert costs["image_passes"] == rows.image_passes.sum()
    assert [values["std_sigma_O"] for _, values in curves] == list(best["std_sigma_O"])
    name = "generation_least_fitness"  # not the winner's, and not called so
    comparable = [(step, values[name]) for step, values in tracked.curves if name in values]
    assert comparable == list(enumerate(rows.groupby("generation").final_fitness.min()))


def test_what_is_scored_again_is_tracked_as_that_and_not_as_a_generation(in_project, monkeypatch):
    folder = in_project(evolve={"population_size": 4, "rescore": Rescore(top=1, draws=2)})  # of 3, the mean would be the best
    tracked = run_main(monkeypatch)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", keep_default_na=False)
    of_search = rows[rows.rescored == ""].sort_values("final_fitness")
    best = of_search[of_search.generation == 1].iloc[0]
    wanted = [f"1-{best['index']}", "0-0", "mean"]
    assert list(rows.rescored[8:]) == [name for name in wanted for _ in (0, 1)]
    names = [f"rescore-{name}-draw{draw}" for name in wanted for draw in (0, 1)]
    assert [name for name, *_ in tracked.candidates][8:] == names
    assert set(names) == {name for name in tracked.ranked if "final_fitness" not in tracked.ranked[name]}
    repeated = dict(zip(wanted, [f"gen1-cand{best['index']}", "gen0-cand0"], strict=False))
    means = rows[rows.rescored != ""].groupby("rescored").final_fitness.mean()
    expected = dict(zip(names, means[rows.rescored[8:]], strict=True)) | {repeated[name]: means[name] for name in repeated}
    fresh = {name: ranks["fresh_fitness"] for name, ranks in tracked.ranked.items() if "fresh_fitness" in ranks}
    assert fresh == pytest.approx(expected)
    by_rank = {name: tracked.ranked[name]["rank"] for name in sorted(tracked.ranked, key=lambda n: tracked.ranked[n]["rank"])}
    draws = [name for name in by_rank if name in names]
    assert draws[0] == tracked.won[-1] and [by_rank[name] for name in draws] == [*range(1, 7)]  # they decide
    searched = [f"gen{g}-cand{i}" for g, i in zip(of_search.generation, of_search["index"], strict=True)]
    searched.sort(key=lambda name: fresh.get(name, math.inf))  # the winner is the first of these too
    assert [(name, rank) for name, rank in by_rank.items() if name not in names] == [*zip(searched, range(1, 9), strict=True)]
    assert [params["rescored"] for _, _, params, *_ in tracked.candidates[8:]] == list(rows.rescored[8:])
    (row,) = rows.index[rows.winner]
    won = rows.rescored[row]
    assert tracked.won == [*([repeated[won]] if won in repeated else []), names[row - 8]]
    assert [step for step, _ in tracked.curves if step is not None] == [0, 1, 0, 1]
    kept = [to for to, name, _ in tracked.files if name.endswith(".safetensors")]
    assert kept == ["checkpoints/generation-0", "checkpoints/generation-1"]


def test_a_plain_network_has_a_genotype_of_nulls_and_no_candidates(in_project, monkeypatch, here_and_now):
    folder = in_project(network={"n_genes": None}, evolve={"variant": "analytic"})
    run_main(monkeypatch)
    assert read_json_model(folder / "models/evolve/genotype.json", GenotypeFile).genotype is None
    assert len(pd.read_csv(folder / "reports/evolve/candidates.csv")) == 0
    assert json.loads((folder / "reports/evolve/metrics.json").read_text())["n_candidates"] == 0
    assert here_and_now.scored == []


def test_the_settings_of_a_plain_network_are_searched_and_trained(in_project, make_params, monkeypatch, digits, tmp_path):
    evolution = {"variant": "baseline", "genes": ["width", "lr"], "objectives": ["loss", "energy"], "choose": "no_worse"}
    folder = in_project(network={"n_genes": None}, evolve=evolution | {"rescore": Rescore(top=2, draws=2)})
    run_main(monkeypatch)
    found = read_json_model(folder / "models/evolve/genotype.json", GenotypeFile)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert set(found.genes) == {"width", "lr"} and rows.status.eq("ok").all() and rows.width.nunique() > 1
    params = make_params(network={"n_genes": None}, evolve=evolution, train={"epochs": 1, "warmup_epochs": 0})
    net = train.run(params, found, load_prepared(digits), tmp_path).net
    built = architecture_of(net).network
    assert built.n_genes is None and built.width == found.genes["width"]


def test_a_run_that_is_changed_in_its_length_alone_takes_over_all_scores_and_ends_in_the_bytes_of_a_new_one(
    in_project, make_params, monkeypatch, here_and_now
):
    folder = in_project(evolve={"rescore": Rescore(top=1, draws=1)})
    first = run_main(monkeypatch)
    md5 = hashlib.md5((folder / "reports/evolve/metrics.json").read_bytes()).hexdigest()
    (folder / "dvc.lock").write_text(f"md5: {md5}")
    write_params(folder / "params.yaml", make_params(evolve={"n_generations": 3}))
    here_and_now.scored.clear()
    second = run_main(monkeypatch)
    extended = contents(folder)
    assert {generation for generation, _ in here_and_now.scored} == {2}
    assert second.times[:6] == first.times[:6] and second.searches != first.searches
    shutil.rmtree(folder / ".scratch")
    run_main(monkeypatch)
    assert contents(folder) == extended
