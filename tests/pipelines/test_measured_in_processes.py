"""evaluate and robustness in two processes measure what one process measures."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.prepared import load_prepared
from gee_core.rank import Rank
from gee_core.training.loop import accuracy_and_loss, for_inference
from pipelines import evaluate, measuring, robustness
from pipelines.inputs.loading import load_trained
from tests.gee_core.processes import in_processes
from tests.pipelines.conftest import CPU, put_trained, write_params

HARDWARE = {"n_draws": 1, "max_images": 10, "weights": [0.0, 0.8], "lost_step": [1]}


def measured(compute: Compute, params: Params, folder: Path, network: Path) -> dict:
    """All measurements of one process; the last batch of the test images has one image, which is the second process's."""
    data = load_prepared(folder)
    data = replace(data, test=data.test.subset(torch.arange(13)))
    net = load_trained(params, data.meta, network)
    metrics, layers, images = evaluate.run(params, net, data, compute)
    few = data.test.subset(torch.arange(1))
    return {
        "metrics": metrics.model_dump(),
        "layers": layers,
        "images": images,
        "exits": evaluate.run_exits(params, net, data, compute),
        "noise": robustness.run(params, net, data, compute),
        "hardware": robustness.run_hardware(params, net, data, compute),
        "one image": accuracy_and_loss(for_inference(net), few, 4, data.meta.normalise, compute),
    }


@pytest.mark.slow
def test_two_processes_measure_what_one_does(digits, trained, make_params, tmp_path):
    robust = {"domain": "image", "batch_size": 4, "strengths": [0.0, 0.5], "n_seeds": 2, "hardware": HARDWARE}
    params = make_params(base={"precision": "fp32"}, evaluate={"batch_size": 4, "exit": [0.5, 1.0]}, robustness=robust)
    alone = measured(CPU, params, digits, trained)
    assert 0.2 < alone["metrics"]["test_accuracy"] < 1
    assert len({row["accuracy"] for row in alone["noise"]}) > 1
    for found in in_processes(2, measured, tmp_path, params, digits, trained):
        assert found["images"] == alone["images"]
        assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-12)
        for row, expected in zip(found["layers"], alone["layers"], strict=True):
            about = {key for key, value in expected.items() if isinstance(value, float)}
            assert [row[key] for key in about] == pytest.approx([expected[key] for key in about], rel=1e-12)
            assert {key: row[key] for key in row.keys() - about} == {key: expected[key] for key in expected.keys() - about}
        assert [row | {"energy_mj": 0} for row in found["exits"]] == [row | {"energy_mj": 0} for row in alone["exits"]]
        energies = [[row["energy_mj"] for row in rows["exits"]] for rows in (found, alone)]
        assert energies[0] == pytest.approx(energies[1], rel=1e-12)
        assert found["noise"] == alone["noise"]
        assert len(found["hardware"]) == 3
        assert found["hardware"] == alone["hardware"]
        assert found["one image"] == pytest.approx(alone["one image"], rel=1e-12)


@pytest.mark.parametrize("changed", ["params.yaml", "data/prepared/meta.json", "network.safetensors", "network.json"])
def test_processes_that_would_measure_another_network_differ(changed, in_project, trained, make_params, monkeypatch):
    keys, folder = [], in_project()
    put_trained(folder, trained)
    monkeypatch.setattr(measuring, "check_alike", lambda rank, own: keys.append((rank, own)))
    monkeypatch.setattr(measuring, "joined", lambda base: nullcontext(replace(CPU, rank=Rank(1, 2))))
    monkeypatch.setattr(measuring, "load_trained", lambda *_: torch.nn.Identity())  # the changed files are damaged

    def compare() -> None:
        with measuring.measuring("evaluate"):
            pass

    compare()
    compare()
    if changed == "params.yaml":
        write_params(folder / changed, make_params(evaluate={"batch_size": 9}))
    else:
        with next(folder.rglob(Path(changed).name)).open("ab") as file:
            file.write(b" ")
    compare()
    assert keys[0] == keys[1] != keys[2]


def test_processes_share_every_image_once():
    assert [Rank(number, 3).share(1) for number in range(3)] == [slice(0, 0), slice(0, 0), slice(0, 1)]
    assert Rank(1, 2).place(5) == (2, 5)
