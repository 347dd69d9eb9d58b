import hashlib
import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gee_core.data import prepared
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared, write_prepared
from gee_core.evolution import proxy
from gee_core.evolution.genotype import Genotype
from gee_core.evolution.loop import Record
from gee_core.evolution.proxy import Candidate, Score, failed, score, wired_network
from gee_core.files import sha256
from gee_core.genome.encoding import genome_of
from pipelines import evolve, journal
from pipelines.train import read_genotype
from pipelines.workers import score_here

COLUMNS = "generation,index,seed,status,fitness,L_ce,R_T,R_S,lambda,proxy_accuracy,epochs,image_passes,sigma_O," + ",".join(
    f"sigma_{layer}" for layer in range(8)
)


def scored_here(task, candidate):
    return score(task, candidate)


class HereAndNow:
    """``Workers`` in this process, so that a test is quick and can count."""

    scored: list[tuple[int, int]]

    def __init__(self, task):
        self.task = task

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def score_all(self, candidates):
        for candidate in candidates:
            HereAndNow.scored.append((candidate.generation, candidate.index))
            yield candidate, scored_here(self.task, candidate), 0.25


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    HereAndNow.scored = []
    monkeypatch.setattr(evolve, "Workers", HereAndNow)


def lines(log):
    return [tuple(json.loads(line)["place"]) for line in log.read_text().splitlines()]


def same(left, right):
    return repr(left) == repr(right)


def test_an_evolution_that_was_stopped_goes_on_where_it_was_and_ends_the_same(digits, make_params, tmp_path):
    params = make_params()
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = evolve.run(params, digits, tmp_path / "whole")

    def stop(record):
        if (record.candidate.generation, record.candidate.index) == (1, 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve.run(params, digits, tmp_path / "stopped", stop)
    HereAndNow.scored.clear()
    seen = []
    assert same(evolve.run(params, digits, tmp_path / "stopped", seen.append), whole)
    assert HereAndNow.scored == [(1, 1), (1, 2)]
    assert same(seen, whole)  # the tracker hears of the earlier ones again
    assert lines(tmp_path / "stopped/records.jsonl") == [(g, i) for g in range(2) for i in range(3)]
    HereAndNow.scored.clear()
    assert same(evolve.run(params, digits, tmp_path / "stopped"), whole)
    assert HereAndNow.scored == []


HALVING = {"halving": 2.0, "proxy_epochs": 3, "population_size": 4}


def test_without_eliminations_halving_equals_plain_evaluation_bit_for_bit(digits, make_params, tmp_path):
    runs = []
    for name, halving in (("plain", None), ("rungs", 1.0)):
        (tmp_path / name).mkdir()
        runs.append(evolve.run(make_params(evolve=HALVING | {"halving": halving}), digits, tmp_path / name))
    assert same(*[[replace(record, seconds=0.0) for record in records] for records in runs])
    assert {record.epochs for record in runs[0]} == {3}


def test_halving_costs_fewer_image_passes_and_stopped_anywhere_ends_the_same(digits, make_params, tmp_path):
    params = make_params(evolve=HALVING)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = evolve.run(params, digits, tmp_path / "whole")
    assert [sorted(r.epochs for r in whole[4 * t : 4 * t + 4]) for t in range(2)] == [[1, 1, 2, 3]] * 2
    assert sum(r.score.image_passes for r in whole) == 2 * 48 * (1 + 1 + 2 + 3)  # of 2·48·12 without
    for n_scores in (2, 3, 5):  # more each time: within a rung, within another, in the second generation
        left = iter(range(n_scores))

        def stop(task, candidate, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return score(task, candidate)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[__name__], "scored_here", stop)
            with pytest.raises(KeyboardInterrupt):
                evolve.run(params, digits, tmp_path / "stopped")
    HereAndNow.scored.clear()
    assert same(evolve.run(params, digits, tmp_path / "stopped"), whole)
    assert len(HereAndNow.scored) == 14 - 2 - 3 - 5
    assert not list((tmp_path / "stopped/checkpoints").glob("*-step*"))


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_record_that_was_cut_off_is_scored_again_and_spoils_no_later_one(kept, digits, make_params, tmp_path):
    params, log = make_params(), tmp_path / "records.jsonl"
    whole = evolve.run(params, digits, tmp_path)
    first, second, *_ = log.read_text().splitlines(keepends=True)
    log.write_text(first + second[: int(kept * len(second))])
    HereAndNow.scored.clear()
    assert same(evolve.run(params, digits, tmp_path), whole)
    assert HereAndNow.scored == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    known = evolve.read_known(log)  # what a second interruption would find
    assert set(known) == {(g, i) for g in range(2) for i in range(3)}


def test_a_record_in_which_a_bit_flipped_is_named_and_scored_again_and_no_other(digits, make_params, tmp_path, caplog):
    params, log = make_params(), tmp_path / "records.jsonl"
    whole = evolve.run(params, digits, tmp_path)
    before = log.read_text().splitlines(keepends=True)
    hit = before[2].replace('"L_ce": ', '"L_ce": 1', 1)  # a number still
    log.write_text("".join([*before[:2], hit, *before[3:]]))
    HereAndNow.scored.clear()
    assert same(evolve.run(params, digits, tmp_path), whole)
    assert HereAndNow.scored == [(0, 2)]
    assert caplog.messages == [f"{log}: 1 of 6 lines damaged; what they recorded is done again"]
    caplog.clear()
    assert same(evolve.run(params, digits, tmp_path), whole)
    assert (HereAndNow.scored, caplog.messages) == ([(0, 2)], [])


def test_a_failed_candidate_is_known_again_with_its_reason(tmp_path):
    log = tmp_path / "log"
    journal.append(log, {"place": (1, 2)} | vars(failed("loss is nan")) | {"seconds": 3.5})
    ((key, (found, seconds)),) = evolve.read_known(log).items()
    assert (key, seconds) == ((1, 2), 3.5)
    assert same(found, failed("loss is nan"))
    assert evolve.read_known(tmp_path / "missing") == {}


def record(generation, index, L_ce, status="ok", epochs=3):
    candidate = Candidate(generation, index, 17 + index, Genotype(0.5, (0.1, 0.2)))
    return Record(candidate, Score(L_ce, 1.0, 0.9, 0.4, status, 90), 0.5, L_ce - 0.25, 2.0, epochs)


def test_the_table_has_a_row_per_candidate_and_no_times():
    rows = evolve.table([record(0, 0, 1.0), record(0, 1, math.nan, "failed: x")]).to_dict("records")
    assert rows[0] == {
        "generation": 0,
        "index": 0,
        "seed": 17,
        "status": "ok",
        "fitness": 0.75,
        "L_ce": 1.0,
        "R_T": 1.0,
        "R_S": 0.9,
        "lambda": 0.5,
        "proxy_accuracy": 0.4,
        "epochs": 3,
        "image_passes": 90,
        "sigma_O": 0.5,
        "sigma_0": 0.1,
        "sigma_1": 0.2,
    }
    assert rows[1]["status"] == "failed: x"
    assert math.isnan(rows[1]["fitness"])


def test_the_metrics_count_the_failed_and_name_the_best():
    records = [record(0, 0, 1.0), record(0, 1, math.nan, "failed: x"), record(1, 0, 0.5), record(1, 1, 0.1, epochs=2)]
    assert evolve.metrics(records, records[2]) == {
        "best_fitness": 0.25,
        "best_L_ce": 0.5,
        "best_proxy_accuracy": 0.4,
        "n_candidates": 4,
        "n_failed": 1,
        "n_eliminated": 1,
        "image_passes": 360,
        "best_generation": 1,
        "best_index": 0,
    }


def test_the_genotype_file_brings_back_the_very_wiring_that_was_scored(digits, make_params):
    params, meta = make_params(), load_prepared(digits).meta
    analytic = evolve.analytic_genotype(params, meta)
    scored = Candidate(1, 2, 12345, Genotype(0.1 + 0.2, tuple(s / 3 for s in analytic.sigma_X)))
    best = Record(scored, Score(1.0, 0.0, 0.0, 0.5), 1.0, 1.0, 0.0)
    values = json.loads(json.dumps(evolve.genotype_file(params, best)))
    keys = ["network", "n_genes", "variant", "form", "sigma_O", "sigma_X", "seed", "generation", "index", "fitness", "start"]
    assert list(values) == keys
    genotypes = scored.genotype, read_genotype(values)
    then, now = (wired_network(params.network, meta, genotype, 12345).state_dict() for genotype in genotypes)
    assert values["seed"] == 12345
    assert all((then[name] == now[name]).all() for name in then)


def test_the_analytic_genotype_is_that_of_the_configured_network(digits, make_params):
    meta = load_prepared(digits).meta
    genotype = evolve.analytic_genotype(make_params(), meta)
    sigma_O, sigma_X = genome_of(wired_network(make_params().network, meta, None, 5)).analytic_sigmas()
    assert genotype == Genotype(sigma_O, tuple(sigma_X))
    assert evolve.analytic_genotype(make_params(network={"n_genes": 12}), meta) != genotype


class Tracked:
    """A tracker that keeps what it is told, and what its files held when it was told."""

    def __init__(self):
        self.candidates, self.curves, self.files = [], [], []

    def params(self, values):
        pass

    def metrics(self, values, step=None):
        self.curves.append((step, values))

    def candidate(self, params, metrics, name, status, artifacts, files):
        self.candidates.append((name, status, params, metrics, artifacts))

    def artifact(self, path, folder=""):
        self.files.append((folder, path.name, path.read_bytes()))

    def drain(self, seconds=60.0):
        pass

    def close(self, status="FINISHED"):
        self.status = status


def run_main(monkeypatch) -> Tracked:
    tracked = Tracked()
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: tracked)
    evolve.main()
    return tracked


def contents(folder):
    paths = [*folder.glob("models/**/*"), *folder.glob("reports/**/*")]
    return {path.relative_to(folder): path.read_bytes() for path in paths if path.is_file()}


def scratch_files(folder):
    return [path.name for path in (folder / ".scratch").rglob("*") if path.is_file()]


def test_the_stage_writes_its_three_files_and_keeps_its_records_until_dvc_knows_of_them(in_project, monkeypatch):
    folder = in_project()
    tracked = run_main(monkeypatch)
    text = (folder / "reports/evolve/candidates.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert list(zip(rows.generation, rows["index"], strict=True)) == [(g, i) for g in range(2) for i in range(3)]
    metrics = json.loads((folder / "reports/evolve/metrics.json").read_text())
    genotype = json.loads((folder / "models/evolve/genotype.json").read_text())
    best = rows[(rows.generation == genotype["generation"]) & (rows["index"] == genotype["index"])].iloc[0]
    assert genotype["seed"] == best.seed
    np.testing.assert_array_equal([genotype["sigma_O"], *genotype["sigma_X"]], best["sigma_O":].astype(float))
    assert (metrics["n_candidates"], metrics["best_index"], metrics["best_L_ce"]) == (6, best["index"], best.L_ce)
    assert sorted(scratch_files(folder)) == ["done", "fitness.svg", "records.jsonl", "sigmas.svg"]
    assert tracked.status == "FINISHED"
    before = contents(folder)
    HereAndNow.scored.clear()
    run_main(monkeypatch)  # `dvc` was killed before it wrote dvc.lock, and runs the stage again
    assert (HereAndNow.scored, contents(folder)) == ([], before)
    md5 = hashlib.md5((folder / "reports/evolve/metrics.json").read_bytes()).hexdigest()
    (folder / "dvc.lock").write_text(f"md5: {md5}")
    run_main(monkeypatch)  # DVC knows of the result: somebody wants it made again
    assert (len(HereAndNow.scored), contents(folder)) == (6, before)


def test_the_stage_tracks_every_candidate_and_the_best_checkpoint_of_every_generation(in_project, monkeypatch):
    folder = in_project()
    tracked = run_main(monkeypatch)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv")
    assert [name for name, *_ in tracked.candidates] == [f"gen{g}-cand{i}" for g in range(2) for i in range(3)]
    for (_, status, params, metrics, artifacts), (_, row) in zip(tracked.candidates, rows.iterrows(), strict=True):
        assert (status, params["wiring_seed"], params["sigma_3"]) == ("ok", row.seed, row.sigma_3)
        assert (metrics["fitness"], metrics["seconds"]) == (row.fitness, 0.25)
        assert json.loads(artifacts["genotype.json"])["sigma_O"] == row.sigma_O
    best = rows.loc[rows.groupby("generation").fitness.idxmin()]
    names = [(g, f"gen{g}-cand{i}.safetensors") for g, i in zip(best.generation, best["index"], strict=True)]
    kept = [(to, name) for to, name, _ in tracked.files if name.endswith(".safetensors")]
    assert kept == [(f"checkpoints/generation-{g}", name) for g, name in names]
    assert [(step, values["fitness"]) for step, values in tracked.curves if step is not None] == list(enumerate(best.fitness))


def test_the_same_seed_gives_the_same_bytes_whether_the_stage_was_stopped_or_not(in_project, monkeypatch):
    folder = in_project()
    run_main(monkeypatch)
    whole = contents(folder)
    for path in whole:
        (folder / path).unlink()
    shutil.rmtree(folder / ".scratch")
    with monkeypatch.context() as patch:

        def stop(track, record):
            if record.candidate.generation == 1:
                raise KeyboardInterrupt

        patch.setattr(evolve, "track_candidate", stop)
        with pytest.raises(SystemExit) as caught:
            run_main(patch)
    assert caught.value.code == 130
    assert contents(folder) == {}
    HereAndNow.scored.clear()
    run_main(monkeypatch)
    assert contents(folder) == whole
    assert HereAndNow.scored == [(1, 1), (1, 2)]


def test_test_images_never_reach_evolve(in_project, monkeypatch):
    folder = in_project()
    run_main(monkeypatch)
    clean = contents(folder)
    data = load_prepared(folder / "data/prepared")
    garbage = PackedImages(255 - data.test.images.flip(0), data.test.labels.flip(0))
    write_poisoned(folder / "data/prepared", data, garbage)
    poisoned = load_prepared(folder / "data/prepared")
    assert not torch.equal(poisoned.test.images, data.test.images)
    for path in clean:
        (folder / path).unlink()
    HereAndNow.scored.clear()
    proxy._images.cache_clear()  # as in a new process
    run_main(monkeypatch)
    assert contents(folder) == clean
    assert len(HereAndNow.scored) == 6


def test_evolve_does_not_so_much_as_look_at_a_test_image(digits, make_params, tmp_path, monkeypatch):
    whole = evolve.run(make_params(), digits, tmp_path)
    data = load_prepared(digits)
    looked = []

    class Poisoned(PackedImages):
        def batches(self, *args, **kwargs):
            looked.append("batches")
            raise AssertionError("a test image was read")

        subset = to = __len__ = batches

    def poison(folder):
        return replace(loaded(folder), test=Poisoned(data.test.images, data.test.labels))

    loaded = proxy.load_prepared
    proxy._images.cache_clear()
    monkeypatch.setattr(proxy, "load_prepared", poison)
    monkeypatch.setattr(evolve, "load_prepared", poison)
    (tmp_path / "poisoned").mkdir()
    assert same(evolve.run(make_params(), digits, tmp_path / "poisoned"), whole)
    proxy._images.cache_clear()
    assert looked == []


def write_poisoned(folder, data, test):
    """The prepared images of ``data`` with other test images."""
    shutil.rmtree(folder)
    write_prepared(
        folder,
        dataset=data.meta.dataset,
        source=data.meta.source,
        class_names=data.meta.class_names,
        mean=data.meta.mean,
        std=data.meta.std,
        train=data.train,
        test=test,
        holdout=data.holdout,
    )


def test_a_plain_network_has_a_genotype_of_nulls_and_no_candidates(in_project, monkeypatch):
    folder = in_project(network={"n_genes": None}, evolve={"variant": "analytic"})
    run_main(monkeypatch)
    genotype = json.loads((folder / "models/evolve/genotype.json").read_text())
    assert {key for key, value in genotype.items() if value is None} == {
        "n_genes",
        "sigma_O",
        "sigma_X",
        "generation",
        "index",
        "fitness",
        "start",
    }
    assert read_genotype(genotype) is None
    assert len(pd.read_csv(folder / "reports/evolve/candidates.csv")) == 0
    assert json.loads((folder / "reports/evolve/metrics.json").read_text())["n_candidates"] == 0
    assert HereAndNow.scored == []


def test_where_every_candidate_fails_the_stage_says_so_and_writes_nothing(in_project, monkeypatch, capsys):
    folder = in_project(evolve={"lr": 1e30})
    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("evolve: error: evolve: all 6 candidates failed; the first: failed: ")
    assert "lower evolve.lr" in message
    assert contents(folder) == {}


def test_images_are_verified_where_they_are_loaded_and_once(digits, make_params, tmp_path, monkeypatch):
    verified = []
    monkeypatch.setattr(prepared, "sha256", lambda path: verified.append(path.name) or sha256(path))
    proxy._images.cache_clear()
    (tmp_path / "scratch").mkdir()
    evolve.run(
        make_params(evolve={"n_generations": 1, "population_size": 2}), digits, tmp_path / "scratch", open_scorer=score_here
    )
    assert sorted(verified) == sorted(path.name for path in digits.iterdir() if path.name != "meta.json")
