import json
import os
import shutil
from dataclasses import replace

import pytest

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.errors import DivergedError
from gee_core.model.network import count_parameters
from pipelines import evaluate, evolve, export, prepare, robustness, train
from pipelines.engines import candidates
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import steps
from pipelines.studies.cell import Cell
from pipelines.studies.steps import prepare_images, run_cell
from tests.gee_core.data.conftest import config

PREPARE = config("data/raw", dataset="digits", max_train_images=40, max_test_images=20, holdout=0.25)
SEVERAL = {
    "variant": "baseline",
    "genes": ["neurons"],
    "objectives": ["loss", "energy"],
    "population_size": 6,
    "n_generations": 1,
}


@pytest.fixture
def cell(make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(stages=("evaluate",), candidate=None, **sections):
        sections = {"evolve": {"n_generations": 1}, "train": {"epochs": 2}} | sections
        return Cell("grid", {}, make_params(**sections), stages, candidate, prepared=digits)

    return make


def untimed(result):
    return {name: value for name, value in result["metrics"].items() if not name.endswith("_seconds")}


def test_what_is_measured_is_what_the_stages_measure(cell, digits, tmp_path):
    wanted = cell(("evaluate", "robustness"))
    result = run_cell(wanted)
    assert json.dumps(result, allow_nan=False) and result["layers"][-1]["output_rate"] is None  # the head has no neurons
    metrics, params, data = result["metrics"], wanted.params, load_prepared(digits)
    evolved = evolve.run(params, digits, tmp_path / "evolve", open_scorer=steps.score_here)
    net, _, of_training, _ = train.run(params, evolved.genotype, data, tmp_path / "train")
    expected = evolved.metrics | of_training | evaluate.run(params, net, data)[0].model_dump()
    expected |= robustness.metrics(robustness.run(params, net, data))
    expected |= {"evolve_passes": 3 * 1 * 48, "train_passes": 2 * 64}  # candidates, epochs, images without the hold-out
    assert {name: metrics[name] for name in expected} == expected


def test_formats_share_a_trained_network_and_are_measured_as_export_measures_them(cell, digits, tmp_path):
    formats = ("fp32", "int4")
    metrics = [run_cell(cell(("export",), export={"genes": format}))["metrics"] for format in formats]
    (path,) = STUDY_STEPS.glob("train/*/network.safetensors")
    for format, numbers in zip(formats, metrics, strict=True):
        params = cell(export={"genes": format}).params
        measured = export.write_genes(tmp_path / format, params, load(path), load_prepared(digits), with_onnx=False)
        assert {name: numbers[name] for name in measured} == measured
        assert numbers["genes_drop"] == measured["fp32_accuracy"] - measured["genes_accuracy"]
    assert metrics[1]["genes_bytes"] < metrics[0]["genes_bytes"] / 2
    assert "genes_bytes" not in run_cell(cell(("export",)))["metrics"]  # export.genes is null


def test_a_network_is_trained_first_where_the_cell_starts_at_genes_for_its_weights(cell, make_params, tmp_path):
    plain = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}, "train": {"epochs": 3}}
    first, wiring = cell(**plain), cell(train={"epochs": 2})
    encoded = replace(wiring, encoded=first.params)
    metrics, unencoded = run_cell(encoded)["metrics"], run_cell(first)["metrics"]
    assert metrics["train_passes"] == 3 * 64 + 2 * 64 and unencoded["train_passes"] == 3 * 64
    assert metrics["parameters"] == run_cell(wiring)["metrics"]["parameters"] < unencoded["parameters"]
    assert len(list(STUDY_STEPS.glob("train/*/network.safetensors"))) == 3  # plain, encoded, from the wiring
    [checkpoint] = [
        path for path in tmp_path.rglob("network.safetensors") if count_parameters(load(path)) == unencoded["parameters"]
    ]
    params = wiring.params.model_copy(update={"train": wiring.params.train.model_copy(update={"init_from": str(checkpoint)})})
    data = load_prepared(encoded.prepared)
    genotype = evolve.run(params, encoded.prepared, tmp_path / "evolve", open_scorer=steps.score_here).genotype
    by_hand = train.run(params, genotype, data, tmp_path / "by_hand").net
    assert metrics["test_loss"] == evaluate.run(params, by_hand.eval(), data)[0].test_loss


def test_a_candidate_is_trained_from_its_own_wiring_and_its_trainings_differ_in_seed_and_draw(cell, monkeypatch):
    results = [run_cell(cell(candidate=index))["metrics"] for index in range(3)]
    winner = run_cell(cell())["metrics"]
    assert len({result["test_loss"] for result in results}) == 3
    best = results[int(winner["best_index"])]
    assert (winner["test_loss"], winner["best_L_ce"]) == (best["test_loss"], best["L_ce"])
    seeds, rows = [], [{"domain": "image", "r": r, "seed": 0, "accuracy": 0.5} for r in (0.0, 0.5)]
    monkeypatch.setattr(robustness, "run", lambda params, *_: seeds.append(params.base.seed) or rows)
    fresh = cell(("evaluate", "robustness"), candidate=1, train={"epochs": 2, "wiring_seed": "fresh"})
    first, second = (run_cell(replace(fresh, training=training))["metrics"] for training in (1, 2))
    assert seeds == [0, 0]  # all are measured with the same noise
    assert first["L_ce"] == second["L_ce"] == results[1]["L_ce"]
    assert first["test_loss"] != second["test_loss"]
    assert len(list(STUDY_STEPS.glob("evolve/*/records.jsonl"))) == 1
    longer = run_cell(cell(candidate=1, evolve={"n_generations": 1, "proxy": {"epochs": 2}}))["metrics"]
    assert longer["test_loss"] == results[1]["test_loss"] and longer["L_ce"] != results[1]["L_ce"]


def test_cells_that_choose_members_of_one_front_share_its_search(cell, digits, tmp_path):
    cells = [cell(evolve=SEVERAL | {"choose": choose}) for choose in (1, "knee")]
    metrics = [run_cell(wanted)["metrics"] for wanted in cells]
    (records,) = STUDY_STEPS.glob("evolve/*/records.jsonl")
    assert len(records.read_bytes().splitlines()) == 6
    for wanted, numbers in zip(cells, metrics, strict=True):
        alone = evolve.run(wanted.params, digits, tmp_path / "evolve", open_scorer=steps.score_here)
        assert {name: numbers[name] for name in alone.metrics} == alone.metrics
        net = train.run(wanted.params, alone.genotype, load_prepared(digits), tmp_path / str(wanted.params.evolve.choose)).net
        params = wanted.params.with_genes(alone.genotype.genes)
        assert numbers["test_loss"] == evaluate.run(params, net, load_prepared(digits))[0].test_loss


@pytest.mark.slow
def test_candidates_are_counted_in_the_search_where_some_are_scored_again(cell):
    rescored = {"evolve": {"n_generations": 1, "rescore": {"top": 2, "draws": 2}}}
    plain, again = run_cell(cell(candidate=2))["metrics"], run_cell(cell(candidate=2, **rescored))["metrics"]
    for name in ("L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy", "test_loss"):
        assert again[name] == plain[name]
    # CMA-ES's mean of a generation of three is the best of them, which is scored again once.
    assert (again["n_candidates"], again["n_rescored"], plain["n_rescored"]) == (3, 4, 0)
    assert again["evolve_passes"] == 7 * 48
    assert run_cell(cell(**rescored))["metrics"]["best_fitness_sd"] > 0


def test_work_that_was_killed_goes_on_to_the_result_of_an_undisturbed_run(cell, monkeypatch):
    wanted = cell(train={"epochs": 3, "warmup_epochs": 1})
    expected = run_cell(wanted)
    shutil.rmtree(STUDY_STEPS)

    def kill_at_the_third(module, name) -> list:
        calls, function = [], getattr(module, name)

        def counted(*rest, **more):
            calls.append(rest)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return function(*rest, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, counted)
            run_cell(wanted)
        return calls

    kill_at_the_third(candidates, "_timed_score")
    assert len(kill_at_the_third(train, "train_epoch")) == 3
    assert untimed(run_cell(wanted)) == untimed(expected)


def spoil(path):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_step_is_named_and_done_again_with_the_same_result(cell, caplog, monkeypatch):
    trained, run = [], train.run
    monkeypatch.setattr(train, "run", lambda *rest, **more: trained.append(rest) or run(*rest, **more))
    wanted = cell(train={"epochs": 2})
    expected = run_cell(wanted)
    for name, is_trained in (("evolve/*/records.jsonl", 0), ("train/*/result.json", 1), ("train/*/network.safetensors", 1)):
        (path,) = STUDY_STEPS.glob(name)
        spoil(path)
        trained.clear()
        assert untimed(run_cell(wanted)) == untimed(expected)
        assert len(trained) == is_trained
        (message,) = [message for message in caplog.messages if message.startswith(f"{path}: ")]
        assert "damaged" in message and "recomputed" in message
        caplog.clear()


def test_images_are_prepared_once_and_anew_where_they_are_damaged_or_the_section_is_another(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    calls, run = [], prepare.run
    monkeypatch.setattr(prepare, "run", lambda cfg, out: calls.append(cfg) or run(cfg, out))
    first = prepare_images(PREPARE)
    path, before = first / "train_images.npy", (first / "train_images.npy").read_bytes()
    assert (prepare_images(PREPARE), len(calls)) == (first, 1)
    assert load_prepared(first).meta.n_train == 40
    spoil(path)
    assert (prepare_images(PREPARE), len(calls)) == (first, 2)
    assert path.read_bytes() == before
    assert caplog.messages == [f"{path}: damaged or missing; it is recomputed"]
    path.unlink()
    prepare_images(PREPARE)
    assert path.read_bytes() == before
    assert prepare_images(PREPARE.model_copy(update={"max_train_images": 50})) != first


def test_another_time_size_or_number_of_raw_files_makes_other_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "run", lambda cfg, out: None)
    cfg, image = PREPARE.model_copy(update={"dataset": "folder", "path": "raw"}), tmp_path / "raw/cats/a.png"
    for name in ("cats", "dogs"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / "z.png").touch()
    folders = []
    for file, content, time in ((image, b"1", 1), (image, b"1", 2), (image, b"12", 2), (image.with_name("b.png"), b"12", 2)):
        file.write_bytes(content)
        os.utime(file, (time, time))
        folders.append(prepare_images(cfg))
    assert len(set(folders)) == 4 and folders[-1] == prepare_images(cfg)


def test_a_candidate_that_failed_and_a_training_that_diverges_fail_their_cell(cell, monkeypatch):
    run = evolve.run

    def first_fails(*arguments, **options):
        evolved = run(*arguments, **options)
        first = evolved.records[0]
        failed = replace(first, score=replace(first.score, status="failed: the loss is nan"))
        return evolved._replace(records=[failed, *evolved.records[1:]])

    def diverges(*arguments):
        raise DivergedError("train: the training loss is nan")

    monkeypatch.setattr(evolve, "run", first_fails)
    assert run_cell(cell(candidate=0)) == {"status": "failed: failed: the loss is nan", "metrics": {}}
    monkeypatch.setattr(train, "run", diverges)
    assert run_cell(cell(candidate=1)) == {"status": "failed: train: the training loss is nan", "metrics": {}}
