"""Recordings of an event camera through every stage."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from gee_core.config import PrepareConfig
from gee_core.data.augment import Augment, to_input
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.gene_file import read_card
from gee_core.model.wired import wired_network
from gee_core.training.loop import for_inference
from gee_core.training.resume import Resumable
from pipelines import evaluate, evolve, export, prepare, robustness, train
from pipelines.commands.prediction import open_model, predict
from pipelines.tracking.pipeline_run import describe_datasets
from tests.gee_core.lively import awake
from tests.pipelines.conftest import CPU, MEASURED, SEARCHED, HereAndNow
from tests.recordings import SIDE, make_recordings, recording
from tests.recordings import save as save_recording

EVENTS = {"frames": 4, "split_by": "time", "clip": 15, "sensor": [SIDE, SIDE]}
SECTIONS = {
    "network": {"name": "cifarnet", "width": 1 / 32, "n_genes": 4, "T": 4},
    "prepare": {"dataset": "events", "name": "bars", "events": EVENTS, "holdout": 0.25},
    "evolve": {
        "proxy": {"epochs": 1, "batch_size": 16, "T_schedule": [2]},
        "n_generations": 1,
        "population_size": 2,
        "budget": {"energy_uj": 1000},
    },
    "train": {"epochs": 3, "batch_size": 8, "warmup_epochs": 0, "crop_padding": 1, "T_schedule": [2, 4], "sizes": [8, 12]},
    "robustness": {"domain": "events", "strengths": [0.0, 0.5], "n_seeds": 2, "batch_size": 5, "hardware": None},
    "export": {"genes": "int8"},
}


@pytest.fixture(autouse=True)
def _loader_workers(monkeypatch):
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")


@pytest.fixture(scope="module")
def params(make_params):
    return make_params(**SECTIONS)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("raw") / "bars", ".npy", train=16, test=8)


@pytest.fixture(scope="module")
def prepared(params, raw, tmp_path_factory) -> Path:
    return prepared_in(tmp_path_factory.mktemp("events") / "prepared", params, raw)


@pytest.fixture(scope="module")
def genotype(params, prepared, tmp_path_factory):
    """Of the winner of two candidates."""
    HereAndNow.scored = []
    found = evolve.run(params, prepared, tmp_path_factory.mktemp("evolve"), open_scorer=HereAndNow)
    assert [record.ok for record in found.records] == [True, True]
    assert all(0 < record.price()["energy_uj"] < 1 for record in found.records)
    return found.genotype


@pytest.fixture(scope="module")
def net(params, prepared):
    """A network whose neurons fire."""
    data = load_prepared(prepared)
    net = wired_network(params.network, data.meta, None, 3)
    return awake(net, data.meta.normalise(data.train.images))


def prepared_in(folder: Path, params, raw: Path, **changes) -> Path:
    prepare.run(PrepareConfig(**params.prepare.model_dump() | {"path": str(raw)} | changes), folder)
    return folder


def test_a_streamed_run_that_was_interrupted_ends_as_a_packed_one_that_was_not(
    params, raw, prepared, genotype, tmp_path, monkeypatch
):
    expected = train.run(params, genotype, load_prepared(prepared), tmp_path / "whole")
    always = 0.0  # a state after every step
    monkeypatch.setattr(train, "Resumable", lambda *args: Resumable(*args[:5], always, *args[6:]))
    streamed = load_prepared(prepared_in(tmp_path / "streamed", params, raw, stream=True))
    assert streamed.meta.stream

    def stop(epochs):
        if epochs == 1.75:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(params, genotype, streamed, tmp_path / "cut", on_step=stop)
    found = train.run(params, genotype, streamed, tmp_path / "cut")
    assert found.rows == expected.rows
    for name, tensor in expected.net.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], tensor), name


def test_shifts_and_fewer_steps_keep_the_events_of_a_recording(prepared):
    data = load_prepared(prepared)
    x = torch.zeros(8, 4, 2, SIDE, SIDE, dtype=torch.uint8)
    x[:, :, :, 3:9, 3:9] = data.train.images[:8, :, :, 3:9, 3:9]
    generator = torch.Generator().manual_seed(0)
    shifted = to_input(x, data.meta.normalise, Augment(3, True, 0, 0.0), generator, size=6, steps=2)
    assert shifted.shape == (2, 8, 2, 6, 6)
    halves = x.float().unflatten(1, (2, 2)).sum(2)  # (B, 2, P, H, W)
    assert torch.equal(shifted.sum((3, 4)), halves.sum((3, 4)).transpose(0, 1))
    one = to_input(x, data.meta.normalise, Augment(3, True, 0, 0.0), torch.Generator().manual_seed(0))
    same = x[:, :1].expand(-1, 4, -1, -1, -1)
    alike = to_input(same, data.meta.normalise, Augment(3, True, 0, 0.0), torch.Generator().manual_seed(0))
    assert torch.equal(alike[0], alike[3]) and torch.equal(alike[0], one[0])


def test_what_evaluate_and_robustness_measure(params, net, prepared):
    data = load_prepared(prepared)
    schema = json.loads(describe_datasets(data.meta, "testing")["testing"]["schema"])
    assert schema["mlflow_tensorspec"]["features"].count("4, 2, 12, 12") == 1
    numbers, layers, images = evaluate.run(params, net, data, CPU)
    assert len(images) == 16 and 0 < numbers.firing_rate < 1
    assert (layers[0]["binary"], layers[0]["counts"]) == (False, True)
    frames = data.test.images.float()
    assert layers[0]["input_rate"] == pytest.approx(frames.mean().item())
    assert layers[0]["energy_mj"] == pytest.approx(0.9e-9 * frames.mean().item() * layers[0]["macs"] * 4)
    early = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"exit": [0.0, 1.0]})})
    first, last = evaluate.run_exits(early, net, data, CPU)
    assert (first["mean_steps"], last["mean_steps"], last["accuracy"]) == (1, 4, numbers.test_accuracy)
    assert 0 < first["energy_mj"] < last["energy_mj"] == pytest.approx(numbers.energy_mj)
    rows = robustness.run(params, net, data, CPU)
    assert [(row["domain"], row["r"], row["seed"]) for row in rows] == [
        (kind, r, seed) for kind in ("dropped", "spurious", "hot", "jitter") for r in (0.0, 0.5) for seed in (0, 1)
    ]
    assert {row["accuracy"] for row in rows if row["r"] == 0} == {numbers.test_accuracy}
    shown = evaluate.show(net, data, images, CPU)
    assert Image.open(io.BytesIO(base64.b64decode(shown.frames))).size == (4 * SIDE, SIDE)
    assert Image.open(io.BytesIO(base64.b64decode(shown.answers[0].picture))).size == (SIDE, SIDE)


@pytest.mark.slow
def test_exported_networks_answer_as_torch_does(params, net, prepared, raw, tmp_path):
    data = load_prepared(prepared)
    name, found = export.write_all(tmp_path, params, net, data, SEARCHED, evaluate.Evaluation(**MEASURED))
    assert name == "gee-bars-cifarnet-g4"
    assert (found.agreement, found.nir_agreement, found.genes_onnx_agreement) == (1.0, 1.0, 1.0)
    assert found.nir_spike_agreement >= 0.999
    card = json.loads((tmp_path / "meta.json").read_text())
    assert card["events"] == EVENTS and read_card(tmp_path / "genes.safetensors")["events"] == EVENTS
    assert "recordings of an event camera, 4 frames of 12 × 12, into 2 classes" in (tmp_path / "README.md").read_text()
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    assert session.get_inputs()[0].shape[1:] == [4, 2, SIDE, SIDE]
    files = [Path("test/left/0.npy"), Path("test/right/1.npy")]
    x = data.meta.normalise(data.test.images[[0, 9]])
    with torch.no_grad():
        expected = for_inference(net)(x).mean(0).softmax(1).numpy()
    for model in ("network.onnx", "genes.safetensors"):
        answers = predict(raw, files, open_model(tmp_path / model), top=2)
        probabilities = [[dict(answer.top)[cls] for cls in ("left", "right")] for answer in answers]
        np.testing.assert_allclose(probabilities, expected, atol=1e-4 if model == "network.onnx" else 0.05)
    (raw / "bad.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad\.npy: not a readable recording"):
        predict(raw, [Path("bad.npy")], open_model(tmp_path / "network.onnx"))
    (raw / "bad.npy").unlink()


def test_data_check_reads_recordings_and_names_the_damaged_ones(tmp_path, in_project, main):
    in_project()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    root = make_recordings(tmp_path / "bars", ".npz")
    code, out, _ = main("data", "check", "bars", "--json")
    found = json.loads(out)
    assert (code, found["problems"]) == (0, [])
    assert found["counts"]["test"] == {"left": 4, "right": 4}
    assert found["facts"]["sensor"] == "12 x 12 pixels, by the events"
    events = {"frames": 4, "split_by": "number", "clip": 15, "sensor": [SIDE, SIDE]}
    assert found["params"] == {"dataset": "events", "path": "bars", "name": "bars", "image_size": None, "events": events}
    save_recording(root / "train/left/8.npz", recording(1) | {"p": recording(1)["p"] * 2 - 1})
    (root / "train/left/9.bin").write_bytes(b"123")
    code, _, err = main("data", "check", "bars")
    assert code == 2 and "8.npz: its polarities are -1, 1" in err and "9.bin: is cut off, 3 bytes" in err
