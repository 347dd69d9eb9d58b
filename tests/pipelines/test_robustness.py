import json

import pandas as pd
import pytest
import torch

from gee_core.data.prepared import load_prepared
from gee_core.evaluation.hardware_noise import disturb
from gee_core.evaluation.noise import noisy_input
from gee_core.model.network import build_network
from gee_core.seeding import torch_generator
from gee_core.training.loop import for_inference
from pipelines import robustness
from pipelines.evaluate import run as evaluate
from tests.pipelines.conftest import CPU, put_trained

NOISE = {"strengths": [0.0, 0.5, 2.0], "n_seeds": 3, "domain": "image"}
HARDWARE = {"n_draws": 2, "max_images": None, "weights": [0.0, 0.5, 50.0], "dropped": [0.0, 1.0], "gene_bits": [0.0, 0.5]}


@pytest.fixture(scope="module")
def data(digits):
    return load_prepared(digits)


@pytest.fixture(scope="module")
def params(make_params):
    return make_params(robustness=NOISE)


@pytest.fixture(scope="module")
def noise(params, net, data):
    """The rows, as a table, and how often progress was told."""
    steps = []
    return pd.DataFrame(robustness.run(params, net, data, CPU, lambda: steps.append(1))), steps


@pytest.fixture(scope="module")
def with_hardware(make_params):
    return lambda **changes: make_params(robustness={"hardware": HARDWARE | changes})


@pytest.fixture(scope="module")
def hardware(with_hardware, net, data):
    """The rows, and how often progress was told."""
    steps = []
    return robustness.run_hardware(with_hardware(), net, data, CPU, lambda: steps.append(1)), steps


def test_every_strength_and_seed_has_the_accuracy_with_the_noise_of_its_seed(noise, params, net, data):
    rows, steps = noise
    assert list(rows) == ["domain", "r", "seed", "accuracy"] and len(steps) == len(rows)
    assert list(zip(rows.r, rows.seed, strict=True)) == [(r, seed) for r in NOISE["strengths"] for seed in range(3)]
    assert set(rows.domain) == {"image"}
    for row in rows.itertuples():
        generator, correct = torch_generator(params.base.seed, "noise", row.seed), 0  # the same at every strength
        for images, labels in data.test.batches(params.robustness.batch_size):
            x = noisy_input(images, data.meta.normalise, row.r, "image", generator)
            with torch.no_grad():
                correct += (net(x).mean(0).argmax(1) == labels).sum().item()
        assert row.accuracy == pytest.approx(correct / 24)
    mean = rows.groupby("r").accuracy.mean()
    assert mean[2.0] < mean[0.0]


def test_strength_0_is_the_accuracy_of_evaluate_and_a_strong_defect_lowers_it(hardware, params, net, data):
    expected = [(d, s, draw) for d in ("weights", "dropped", "gene_bits") for s in HARDWARE[d] for draw in (0, 1)]
    assert [(row["domain"], row["strength"], row["draw"]) for row in hardware[0]] == expected
    assert len(hardware[1]) == len(expected)
    clean = evaluate(params, net, data, CPU)[0].test_accuracy
    rows = pd.DataFrame(hardware[0]).set_index(["domain", "strength"])["accuracy"]
    assert [*rows["weights", 0.0], *rows["dropped", 0.0]] == [pytest.approx(clean)] * 4
    assert rows["weights", 50.0].mean() < clean - 0.2 and rows["dropped", 1.0].mean() < clean - 0.2


def test_an_accuracy_is_that_of_the_disturbed_network(hardware, params, net, data):
    images, labels = next(data.test.batches(100))
    for row in hardware[0]:
        if row["draw"] == 1 and row["domain"] != "dropped":  # whose faults depend on the batches
            faulty = disturb(net, row["domain"], row["strength"], params.base.seed, 1)
            found = faulty(data.meta.normalise(images)).mean(0).argmax(1)
            assert row["accuracy"] == pytest.approx((found == labels).float().mean().item())


def test_what_does_not_exist_for_a_plain_network_is_left_out_with_a_reason(with_hardware, data, make_params):
    plain = for_inference(build_network("vgg16", 10, 1, 8, None, 1 / 16, T=2))
    assert {row["domain"] for row in robustness.run_hardware(with_hardware(), plain, data, CPU)} == {"weights", "dropped"}
    assert robustness.hardware_domains(with_hardware(), plain)[1] == {"gene_bits": "the network is plain and has no genes"}
    assert robustness.run_hardware(make_params(), plain, data, CPU) == []
    assert robustness.hardware_domains(make_params(), plain) == ({}, {})


def test_at_most_so_many_images_are_used_the_same_in_every_run(with_hardware, net, data, monkeypatch):
    used = []
    monkeypatch.setattr(robustness, "accuracy_and_loss", lambda net, images, *rest: used.append(images) or (0.5, 0.0))
    for most in (7, 7, 1000, None):
        robustness.run_hardware(with_hardware(max_images=most, weights=[0.1], dropped=None, gene_bits=None), net, data, CPU)
    assert [len(images) for images in used[::2]] == [7, 7, 24, 24]
    assert used[0].labels.tolist() == used[2].labels.tolist()
    assert used[0].images.equal(used[2].images)


@pytest.mark.parametrize("hardware", [HARDWARE, None], ids=["measured", "null"])
def test_the_stage_writes_its_files(in_project, trained, hardware):
    folder = in_project(robustness={"hardware": hardware})
    put_trained(folder, trained)
    robustness.main()
    noise, table = (pd.read_csv(folder / f"reports/robustness/{name}.csv") for name in ("noise", "hardware"))
    assert list(noise) == ["domain", "r", "seed", "accuracy"] and len(noise) == 4
    assert list(table) == ["domain", "strength", "draw", "accuracy"] and len(table) == (2 * 7 if hardware else 0)
    metrics = json.loads((folder / "reports/robustness/metrics.json").read_text())
    mean = {
        name: pytest.approx(noise[noise.r == r].accuracy.mean()) for name, r in (("noise_accuracy", 0.5), ("clean_accuracy", 0))
    }
    assert metrics == mean | {"hardware_left_out": {}}
