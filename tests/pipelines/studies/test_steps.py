import os
import shutil
from dataclasses import replace

import pytest

from gee_core.checkpoint import load
from gee_core.config import PrepareConfig
from gee_core.data.prepared import load_prepared
from gee_core.model.network import count_parameters
from pipelines import evaluate, evolve, export, prepare, robustness, train
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import steps
from pipelines.studies.cell import Cell
from pipelines.studies.steps import prepare_images, run_cell

DIGITS = {
    "path": "data/raw",
    "events": None,
    "image_size": None,
    "max_train_images": 40,
    "max_test_images": 20,
    "holdout": 0.25,
}
PREPARE = PrepareConfig(dataset="digits", name=None, test_share=0.2, split_seed=0, stream=False, **DIGITS)


@pytest.fixture
def cell(make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(stages=("evaluate",), candidate=None, **sections):
        own = {"evolve": {"n_generations": 1}, "train": {"epochs": 2}} | sections
        return Cell("grid", {}, make_params(**own), stages, candidate, prepared=digits)

    return make


def test_what_is_measured_is_what_the_stages_measure(cell, digits, tmp_path):
    wanted = cell(("evaluate", "robustness"))
    result = run_cell(wanted)
    found = result["metrics"]
    params, data = wanted.params, load_prepared(digits)
    evolved = evolve.run(params, digits, tmp_path / "evolve", open_scorer=steps.score_here)
    net, _, of_training = train.run(params, evolved.genotype, data, tmp_path / "train")
    expected = evolved.metrics | of_training | evaluate.run(params, net, data)[0].model_dump()
    expected |= robustness.metrics(robustness.run(params, net, data))
    assert {name: found[name] for name in expected} == expected


def test_formats_share_a_trained_network_and_are_measured_as_export_measures_them(cell, digits, tmp_path):
    formats = ("fp32", "int4")
    found = [run_cell(cell(("export",), export={"genes": format}))["metrics"] for format in formats]
    assert len(list(STUDY_STEPS.glob("train/*/network.safetensors"))) == 1
    (path,) = STUDY_STEPS.glob("train/*/network.safetensors")
    for format, numbers in zip(formats, found, strict=True):
        params = cell(export={"genes": format}).params
        measured = export.write_genes(tmp_path / format, params, load(path), load_prepared(digits), with_onnx=False)
        assert {name: numbers[name] for name in measured} == measured
        assert numbers["genes_drop"] == measured["fp32_accuracy"] - measured["genes_accuracy"]
    assert found[0]["genes_drop"] == 0 and found[0]["genes_agreement"] == 1
    assert found[1]["genes_bytes"] < found[0]["genes_bytes"] / 2
    assert "genes_bytes" not in run_cell(cell(("export",)))["metrics"]  # export.genes is null


def test_costs_count_the_images_that_the_training_passes(cell):
    metrics = run_cell(cell())["metrics"]
    assert metrics["evolve_passes"] == 3 * 1 * 48  # candidates, epochs, images without the hold-out
    assert metrics["train_passes"] == 2 * 64


def test_a_network_is_trained_first_where_the_cell_starts_at_genes_for_its_weights(cell, make_params, tmp_path):
    plain = {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}, "train": {"epochs": 3}}
    first, own = cell(**plain), cell(train={"epochs": 2})
    encoded = replace(own, encoded=first.params)
    found, unencoded = run_cell(encoded)["metrics"], run_cell(first)["metrics"]
    assert found["train_passes"] == 3 * 64 + 2 * 64 and unencoded["train_passes"] == 3 * 64
    assert found["parameters"] == run_cell(own)["metrics"]["parameters"] < unencoded["parameters"]
    [checkpoint] = [
        path for path in tmp_path.rglob("network.safetensors") if count_parameters(load(path)) == unencoded["parameters"]
    ]
    params = own.params.model_copy(update={"train": own.params.train.model_copy(update={"init_from": str(checkpoint)})})
    data = load_prepared(encoded.prepared)
    genotype = evolve.run(params, encoded.prepared, tmp_path / "evolve", open_scorer=steps.score_here).genotype
    by_hand = train.run(params, genotype, data, tmp_path / "by_hand").net
    assert found["test_loss"] == evaluate.run(params, by_hand.eval(), data)[0].test_loss


def test_a_candidate_is_trained_from_its_own_wiring(cell):
    results = [run_cell(cell(candidate=index))["metrics"] for index in range(3)]
    winner = run_cell(cell())["metrics"]
    assert len({r["test_loss"] for r in results}) == 3
    best = int(winner["best_index"])
    assert winner["test_loss"] == results[best]["test_loss"]
    assert winner["best_L_ce"] == results[best]["L_ce"]


def test_a_candidates_trainings_differ_in_seed_and_draw_and_share_its_evolution(cell, tmp_path):
    own = cell(candidate=1, train={"epochs": 2, "wiring_seed": "fresh"})
    first, second = (run_cell(replace(own, training=training))["metrics"] for training in (1, 2))
    assert first["L_ce"] == second["L_ce"]
    assert first["test_loss"] != second["test_loss"]
    assert len(list(STUDY_STEPS.glob("evolve/*/evolved.json"))) == 1


@pytest.mark.slow
def test_candidates_are_counted_in_the_search_where_some_are_scored_again(cell):
    rescored = {"evolve": {"n_generations": 1, "rescore": {"top": 2, "draws": 2}}}
    plain, again = run_cell(cell(candidate=2))["metrics"], run_cell(cell(candidate=2, **rescored))["metrics"]
    for name in ("L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy", "test_loss"):
        assert again[name] == plain[name]
    # CMA-ES's mean of a generation of three is the best of them, which is scored again once.
    assert (again["n_candidates"], again["n_rescored"], plain["n_rescored"]) == (3, 4, 0)
    assert again["evolve_passes"] == 7 * 48
    wanted = cell(**rescored)
    found = steps._evolved(wanted, lambda note: None)
    assert (len(found["records"]), found["genotype"]["generation"]) == (3, 1)
    assert run_cell(wanted)["metrics"]["best_fitness_sd"] > 0


def test_a_training_that_was_killed_goes_on_at_its_last_epoch(cell, monkeypatch):
    wanted = cell(train={"epochs": 3, "warmup_epochs": 1})
    expected = run_cell(wanted)["metrics"]
    shutil.rmtree(STUDY_STEPS / "train")

    def kill(note):
        if note.startswith("train 2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(wanted, kill)
    notes = []
    found = run_cell(wanted, notes.append)["metrics"]
    assert "evolve 1/3" not in notes  # the evolution was done
    times = ("evolve_seconds", "train_seconds")
    assert {k: v for k, v in found.items() if k not in times} == {k: v for k, v in expected.items() if k not in times}


def spoil(path):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["evolve/*/evolved.json", "train/*/network.safetensors"])
def test_a_damaged_step_is_named_and_done_again_with_the_same_result(name, cell, caplog):
    wanted = cell(train={"epochs": 2})
    expected = run_cell(wanted)["metrics"]
    (path,) = STUDY_STEPS.glob(name)
    before = path.read_bytes()
    spoil(path)
    notes = []
    found = run_cell(wanted, notes.append)["metrics"]
    assert ("evolve 1/3" in notes, any(note.startswith("train 2/2") for note in notes)) == ("evolve" in name, "train" in name)
    times = ("evolve_seconds", "train_seconds")
    assert {k: v for k, v in found.items() if k not in times} == {k: v for k, v in expected.items() if k not in times}
    (message,) = caplog.messages
    assert message.startswith(f"{path}: damaged")
    assert (path.read_bytes() == before) == path.name.endswith(".safetensors")  # the other holds times


def test_damaged_images_are_named_and_prepared_again(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    path = prepare_images(PREPARE) / "train_images.npy"
    before = path.read_bytes()
    spoil(path)
    prepare_images(PREPARE)
    assert path.read_bytes() == before
    (message,) = caplog.messages
    assert message == f"{path}: damaged, its checksum is not the one in meta.json; it is recomputed"


def test_images_are_prepared_once_and_anew_for_another_section(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls, run = [], prepare.run
    monkeypatch.setattr(prepare, "run", lambda cfg, out: calls.append(cfg) or run(cfg, out))
    first, again = prepare_images(PREPARE), prepare_images(PREPARE)
    assert first == again
    assert load_prepared(first).meta.n_train == 40
    other = prepare_images(PREPARE.model_copy(update={"max_train_images": 50}))
    assert other != first
    assert len(calls) == 2


def test_another_time_size_or_number_of_raw_files_makes_other_images(tmp_path):
    cfg = PREPARE.model_copy(update={"dataset": "folder", "path": str(tmp_path)})
    image = tmp_path / "cats/a.png"
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "z.png").touch()
    image.write_bytes(b"1")
    os.utime(image, (1, 1))
    found = [steps._listing(cfg)]
    os.utime(image, (2, 2))  # as an image of the same size in its place
    found.append(steps._listing(cfg))
    image.write_bytes(b"12")
    found.append(steps._listing(cfg))
    (image.parent / "b.png").write_bytes(b"12")
    found.append(steps._listing(cfg))
    assert len(set(found)) == 4 and found[-1] == steps._listing(cfg)


def test_a_candidate_that_failed_fails_its_cell(cell, monkeypatch):
    wanted = cell(candidate=0)
    found = steps._evolved(wanted, lambda note: None)
    found["records"][0]["status"] = "failed: the loss is nan"
    monkeypatch.setattr(steps, "_evolved", lambda *arguments: found)
    assert run_cell(wanted) == {"status": "failed: failed: the loss is nan", "metrics": {}}
    assert run_cell(replace(wanted, candidate=1))["status"] == "ok"


def test_a_number_that_json_cannot_hold_is_none_in_the_rows_of_a_cell():
    row = {"layer": "stem", "binary": True, "output_rate": 0.1 + 0.2}
    found = steps._rows([row | {"energy_mj": float("inf"), "input_rate": float("nan")}])
    assert found == [row | {"energy_mj": None, "input_rate": None}]
