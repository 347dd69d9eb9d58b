import math
import os
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.errors import DivergedError, InputError
from gee_core.evolution import proxy
from gee_core.model.network import count_parameters
from pipelines import evaluate, evolve, export, prepare, robustness, train
from pipelines.runtime.run_folder import runs_root
from pipelines.studies import steps
from pipelines.studies.plan import Cell
from pipelines.studies.steps import NETWORK, ROWS_OF, prepare_images, run_cell
from tests.gee_core.data.conftest import config
from tests.pipelines.conftest import CPU


@pytest.fixture
def cell(make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(stages=("evaluate",), candidate=None, **sections):
        sections = {"evolve": {"n_generations": 1}, "train": {"epochs": 2}} | sections
        return Cell({}, make_params(**sections), stages, candidate, prepared=digits)

    return make


def drop_times(result):
    return {name: value for name, value in result.metrics.items() if not name.endswith("_seconds")}


def networks():
    """The trained networks on disk."""
    return sorted(runs_root().glob(f"step-train-*/{NETWORK}"))


def test_what_is_measured_is_what_the_stages_measure(cell, digits, tmp_path):
    wanted = cell(("evaluate", "robustness"))
    metrics, params, data = run_cell(wanted).metrics, wanted.params, load_prepared(digits)
    evolved = evolve.run(params, digits, tmp_path / "evolve", open_scorer=steps.score_here)
    net, _, of_training, _ = train.run(params, evolved.genotype, data, tmp_path / "train")
    expected = evolved.metrics | of_training | evaluate.run(params, net, data, CPU)[0].model_dump()
    noise = robustness.run(params, net, data, CPU)
    expected |= robustness.metrics(noise)
    expected |= {"evolve_passes": 3 * 1 * 48, "train_passes": 2 * 64}  # candidates, epochs, images without the hold-out
    assert {name: metrics[name] for name in expected} == expected
    rows = {kind: pd.read_csv(wanted.folder / ROWS_OF.format(kind)) for kind in ("layers", "noise")}
    assert rows["noise"].to_dict("records") == noise
    assert math.isnan(rows["layers"]["output_rate"].iloc[-1])  # the head has no neurons


def test_formats_share_a_network_and_are_measured_as_export_measures_them(cell, digits, tmp_path):
    formats = ("fp32", "int4")
    metrics = [run_cell(cell(("export",), export={"genes": format})).metrics for format in formats]
    [path] = networks()
    for format, numbers in zip(formats, metrics, strict=True):
        params = cell(export={"genes": format}).params
        measured = export.write_genes(tmp_path / format, params, load(path), load_prepared(digits), with_onnx=False)
        assert {name: numbers[name] for name in measured} == measured
        assert numbers["genes_drop"] == measured["fp32_accuracy"] - measured["genes_accuracy"]
    assert metrics[1]["genes_bytes"] < metrics[0]["genes_bytes"] / 2
    assert "genes_bytes" not in run_cell(cell(("export",))).metrics  # export.genes is null


def test_a_plain_network_is_trained_first_where_the_cell_encodes_it(cell, make_params, tmp_path):
    plain = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}, "train": {"epochs": 3}}
    first, wiring = cell(**plain), cell(train={"epochs": 2})
    encoded = replace(wiring, encoded=first.params)
    metrics, unencoded = run_cell(encoded).metrics, run_cell(first).metrics
    assert metrics["train_passes"] == 3 * 64 + 2 * 64 and unencoded["train_passes"] == 3 * 64
    assert metrics["parameters"] == run_cell(wiring).metrics["parameters"] < unencoded["parameters"]
    assert len(networks()) == 3  # plain, encoded, from the wiring
    [checkpoint] = [path for path in networks() if count_parameters(load(path)) == unencoded["parameters"]]
    params = wiring.params.model_copy(update={"train": wiring.params.train.model_copy(update={"init_from": str(checkpoint)})})
    data = load_prepared(encoded.prepared)
    genotype = evolve.run(params, encoded.prepared, tmp_path / "evolve", open_scorer=steps.score_here).genotype
    by_hand = train.run(params, genotype, data, tmp_path / "by_hand").net
    assert metrics["test_loss"] == evaluate.run(params, by_hand.eval(), data, CPU)[0].test_loss


def test_a_candidate_is_trained_from_its_own_wiring_with_a_seed_per_training(cell):
    results = [run_cell(cell(candidate=index)).metrics for index in range(3)]
    winner = run_cell(cell()).metrics
    assert len({result["test_loss"] for result in results}) == 3
    best = results[int(winner["best_index"])]
    assert (winner["test_loss"], winner["best_L_ce"]) == (best["test_loss"], best["L_ce"])
    fresh = cell(candidate=1, train={"epochs": 2, "wiring_seed": "fresh"})
    first, second = (run_cell(replace(fresh, training=training)).metrics for training in (1, 2))
    assert first["L_ce"] == second["L_ce"] == results[1]["L_ce"]
    assert first["test_loss"] != second["test_loss"]
    longer = run_cell(cell(candidate=1, evolve={"n_generations": 1, "proxy": {"epochs": 2}})).metrics
    assert longer["test_loss"] == results[1]["test_loss"] and longer["L_ce"] != results[1]["L_ce"]


def test_killed_work_goes_on_to_the_result_of_an_undisturbed_run(cell, monkeypatch):
    wanted = cell(train={"epochs": 3, "warmup_epochs": 1})
    expected = run_cell(wanted)
    shutil.rmtree(runs_root())
    kills = []

    def kill_at(third):
        """Raises in place of the third call, once."""

        def call(*arguments):
            calls.append(arguments)
            if len(calls) == 3 and third not in kills:
                kills.append(third)
                calls.pop()
                raise KeyboardInterrupt
            return third(*arguments)

        calls: list[tuple] = []
        return calls, call

    scored, score = kill_at(proxy.score)
    trained, train_epoch = kill_at(train.train_epoch)
    monkeypatch.setattr(proxy, "score", score)
    monkeypatch.setattr(train, "train_epoch", train_epoch)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_cell(wanted)
    assert drop_times(run_cell(wanted)) == drop_times(expected)
    assert (len(scored), len(trained), len(kills)) == (3, 3, 2)  # candidates, epochs


def test_a_damaged_network_names_the_folder_to_delete(cell):
    wanted = cell(network={"n_genes": None}, evolve={"variant": "analytic"})
    before = run_cell(wanted)
    [path] = networks()
    path.write_bytes(path.read_bytes()[:-9])
    folder = path.parents[1]
    for reader in (wanted, replace(cell(), encoded=wanted.params)):
        with pytest.raises(InputError, match=f"{path}: .*: delete the folder {folder}, and run the study again"):
            run_cell(reader)
    shutil.rmtree(folder)
    assert drop_times(run_cell(wanted)) == drop_times(before)


def test_images_are_prepared_once_and_anew_where_raw_files_or_settings_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(prepare, "run", lambda cfg, out: calls.append(cfg))
    cfg, image = config("raw", dataset="folder"), tmp_path / "raw/cats/a.png"
    for name in ("cats", "dogs"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / "z.png").touch()
    folders = []
    for file, content, time in ((image, b"1", 1), (image, b"1", 2), (image, b"12", 2), (image.with_name("b.png"), b"12", 2)):
        file.write_bytes(content)
        os.utime(file, (time, time))
        folders.append(prepare_images(cfg))
    assert len(set(folders)) == 4 and folders[-1] == prepare_images(cfg) and len(calls) == 4
    assert prepare_images(cfg.model_copy(update={"max_train_images": 50})) not in folders


def test_a_failed_candidate_and_a_training_that_diverges_fail_their_cell(cell, monkeypatch):
    run = evolve.run

    def first_fails(*arguments, **options):
        evolved = run(*arguments, **options)
        first = evolved.records[0]
        failed = replace(first, score=replace(first.score, status="failed: the loss is nan"))
        return evolved._replace(records=[failed, *evolved.records[1:]])

    def diverges(*arguments):
        raise DivergedError("train: the training loss is nan")

    monkeypatch.setattr(evolve, "run", first_fails)
    assert run_cell(cell(candidate=0)) == ("failed: failed: the loss is nan", {}, None)
    monkeypatch.setattr(train, "run", diverges)
    assert run_cell(cell(candidate=1)) == ("failed: train: the training loss is nan", {}, None)
