import hashlib
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gee_core.config.evolve import Rescore
from gee_core.data.meta import load_meta
from gee_core.data.prepared import load_prepared
from gee_core.evolution.proxy import score
from gee_core.model.wired import architecture_of
from gee_core.storage.atomic_files import write_atomically
from gee_core.storage.json_object import read_json_model
from pipelines import evolve, train
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.search import load_start
from pipelines.runtime.run_files import HELD, read_record, read_rows
from tests.pipelines.conftest import write_params

GENES = ["sigma_O", *(f"sigma_{layer}" for layer in range(8))]
pytestmark = pytest.mark.usefixtures("here_and_now")


class Noted:
    """What the stage has noted in its run folder."""

    def __init__(self, folder):
        self.path = next(path for path in (folder / ".scratch/runs").iterdir())
        self.record, rows = read_record(self.path), read_rows(self.path)
        self.candidates = [row for row in rows if "child" in row]
        self.curves = [(row["step"], row["metrics"]) for row in rows if "step" in row]
        self.names = [row["name"] for row in self.candidates]
        marks = {row["name"]: self.record.marks[row["child"]] for row in self.candidates}
        self.ranked = {name: mark.metrics for name, mark in marks.items()}
        self.won = sorted(name for name, mark in marks.items() if mark.tags == {"gee.winner": "true"})


def run_main(folder) -> Noted:
    evolve.main()
    return Noted(folder)


def contents(folder):
    paths = [*folder.glob("models/**/*"), *folder.glob("reports/**/*")]
    return {path.relative_to(folder): path.read_bytes() for path in paths if path.is_file()}


def test_the_stage_writes_its_three_files_and_keeps_its_rows_until_dvc_knows_of_them(in_project, here_and_now):
    folder = in_project()
    noted = run_main(folder)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert list(zip(rows.generation, rows["index"], strict=True)) == [(g, i) for g in range(2) for i in range(3)]
    genotype = json.loads((folder / "models/evolve/genotype.json").read_text())
    best = rows[(rows.generation == genotype["generation"]) & (rows["index"] == genotype["index"])].iloc[0]
    assert genotype["seed"] == best.seed
    np.testing.assert_array_equal([genotype["genes"][gene] for gene in GENES], best[GENES].astype(float))
    assert genotype["searched"] == GENES
    assert list(rows.index[rows.winner]) == [best.name]
    assert {path.name for path in noted.path.iterdir()} == {HELD, "run.json", "rows.jsonl", "files"}
    assert [path.name for path in (noted.path / "files").iterdir()] == ["upload"]
    before, written = contents(folder), (noted.path / "rows.jsonl").read_bytes()
    here_and_now.scored.clear()
    again = run_main(folder)  # `dvc` was killed before it wrote dvc.lock, and runs the stage again
    assert (here_and_now.scored, contents(folder), again.record.work) == ([], before, noted.record.work)
    assert (noted.path / "rows.jsonl").read_bytes() == written  # each score and each point is there once
    assert again.ranked == noted.ranked


def test_the_stage_notes_every_candidate_and_the_best_of_each_generation(in_project, make_params, here_and_now, monkeypatch):
    monkeypatch.setattr(here_and_now, "score", lambda task, c: replace(score(task, c), dead=False))  # all are, of so few images
    folder = in_project()
    noted = run_main(folder)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert noted.names == [f"gen{g}-cand{i}" for g in range(2) for i in range(3)]
    assert noted.record.datasets["training"]["digest"] == load_meta(folder / "data/prepared").digest
    (won,) = rows[rows.winner].to_dict("records")
    assert noted.won == [f"gen{won['generation']}-cand{won['index']}"] == [noted.record.tags["gee.best"]]
    assert [noted.ranked[name]["final_fitness"] for name in noted.names] == list(rows.final_fitness) != list(rows.fitness)
    assert [noted.ranked[name]["rank"] for name in noted.names] == list(rows.final_fitness.rank())
    assert noted.ranked[noted.won[0]]["rank"] == 1
    assert {row["time"] - row["start"] for row in noted.candidates} == {250}
    for candidate, (_, row) in zip(noted.candidates, rows.iterrows(), strict=True):
        params, metrics = candidate["params"], candidate["metrics"]
        assert (candidate["tags"]["status"], params["wiring_seed"], params["sigma_3"]) == (
            "ok",
            str(row.seed),
            str(row.sigma_3),
        )
        assert {gene: metrics[f"gene.{gene}"] for gene in (*GENES, "beta")} == dict(row[[*GENES, "beta"]])
        assert (metrics["fitness"], metrics["seconds"], params["network"]) == (row.fitness, 0.25, "vgg16")
        write_atomically(folder / "inputs/saved.json", candidate["texts"]["genotype.json"])
        start = load_start(make_params(evolve={"start": "inputs/saved.json"}))
        assert start.as_dict() == row["sigma_O":"beta"].to_dict()  # another search can start there
    best = rows.loc[rows.groupby("generation").fitness.idxmin()]
    curves = [(step, values) for step, values in noted.curves if "generation_best/fitness" in values]
    assert [(step, values["generation_best/fitness"]) for step, values in curves] == list(enumerate(best.fitness))
    assert noted.record.metrics["image_passes"] == rows.image_passes.sum()
    assert [values["std_sigma_O"] for _, values in curves] == list(best["std_sigma_O"])
    name = "generation_least_fitness"  # not the winner's, and not called so
    comparable = [(step, values[name]) for step, values in noted.curves if name in values]
    assert comparable == list(enumerate(rows.groupby("generation").final_fitness.min()))


def test_what_is_scored_again_is_noted_as_that_and_not_as_a_generation(in_project):
    folder = in_project(evolve={"population_size": 4, "rescore": Rescore(top=1, draws=2)})  # of 3, the mean would be the best
    noted = run_main(folder)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", keep_default_na=False)
    of_search = rows[rows.rescored == ""].sort_values("final_fitness")
    best = of_search[of_search.generation == 1].iloc[0]
    wanted = [f"1-{best['index']}", "0-0", "mean"]
    assert list(rows.rescored[8:]) == [name for name in wanted for _ in (0, 1)]
    names = [f"rescore-{name}-draw{draw}" for name in wanted for draw in (0, 1)]
    assert noted.names[8:] == names
    assert set(names) == {name for name in noted.ranked if "final_fitness" not in noted.ranked[name]}
    repeated = dict(zip(wanted, [f"gen1-cand{best['index']}", "gen0-cand0"], strict=False))
    means = rows[rows.rescored != ""].groupby("rescored").final_fitness.mean()
    expected = dict(zip(names, means[rows.rescored[8:]], strict=True)) | {repeated[name]: means[name] for name in repeated}
    fresh = {name: ranks["fresh_fitness"] for name, ranks in noted.ranked.items() if "fresh_fitness" in ranks}
    assert fresh == pytest.approx(expected)
    by_rank = {name: noted.ranked[name]["rank"] for name in sorted(noted.ranked, key=lambda n: noted.ranked[n]["rank"])}
    draws = [name for name in by_rank if name in names]
    assert draws[0] == noted.won[-1] and [by_rank[name] for name in draws] == [*range(1, 7)]  # they decide
    searched = [f"gen{g}-cand{i}" for g, i in zip(of_search.generation, of_search["index"], strict=True)]
    searched.sort(key=lambda name: fresh.get(name, math.inf))  # the winner is the first of these too
    assert [(name, rank) for name, rank in by_rank.items() if name not in names] == [*zip(searched, range(1, 9), strict=True)]
    assert [row["params"]["rescored"] for row in noted.candidates[8:]] == list(rows.rescored[8:])
    assert {row["level"] for row in noted.candidates[8:]} == {"rescore"}
    (row,) = rows.index[rows.winner]
    won = rows.rescored[row]
    assert noted.won == [*([repeated[won]] if won in repeated else []), names[row - 8]]
    assert [step for step, _ in noted.curves] == [0, 1, 0, 1]


def test_a_plain_network_has_a_genotype_of_nulls_and_no_candidates(in_project, here_and_now):
    folder = in_project(network={"n_genes": None}, evolve={"variant": "analytic"})
    evolve.main()
    assert read_json_model(folder / "models/evolve/genotype.json", GenotypeFile).genotype is None
    assert len(pd.read_csv(folder / "reports/evolve/candidates.csv")) == 0
    assert json.loads((folder / "reports/evolve/metrics.json").read_text())["n_candidates"] == 0
    assert here_and_now.scored == []


def test_the_settings_of_a_plain_network_are_searched_and_trained(in_project, make_params, digits, tmp_path):
    evolution = {"variant": "baseline", "genes": ["width", "lr"]}
    folder = in_project(network={"n_genes": None}, evolve=evolution | {"rescore": Rescore(top=2, draws=2)})
    evolve.main()
    found = read_json_model(folder / "models/evolve/genotype.json", GenotypeFile)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert set(found.genes) == {"width", "lr"} and rows.status.eq("ok").all() and rows.width.nunique() > 1
    params = make_params(network={"n_genes": None}, evolve=evolution, train={"epochs": 1, "warmup_epochs": 0})
    net = train.run(params, found, load_prepared(digits), tmp_path).net
    built = architecture_of(net).network
    assert built.n_genes is None and built.width == found.genes["width"]


def test_a_run_that_is_changed_in_its_length_alone_takes_over_all_scores(in_project, make_params, here_and_now, capsys):
    """It ends in the bytes of a new one."""
    folder = in_project(evolve={"rescore": Rescore(top=1, draws=1)})
    first = run_main(folder)
    md5 = hashlib.md5((folder / "reports/evolve/metrics.json").read_bytes()).hexdigest()
    (folder / "dvc.lock").write_text(f"md5: {md5}")
    write_params(folder / "params.yaml", make_params(evolve={"n_generations": 3}))
    here_and_now.scored.clear()
    evolve.main()
    assert f"evolve: continuing at candidate {len(first.candidates) + 1} of " in capsys.readouterr().err
    rows = [row for row in read_rows(first.path) if "child" in row]
    extended, record = contents(folder), read_record(first.path)
    assert {generation for generation, _ in here_and_now.scored} == {2}
    assert rows[: len(first.candidates)] == first.candidates and record.work != first.record.work
    assert len(record.marks) == 9 < len(rows)  # the draws of the first run are not of the second
    shutil.rmtree(folder / ".scratch")
    evolve.main()
    assert contents(folder) == extended
