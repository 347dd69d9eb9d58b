import json
import shutil

import pandas as pd
import pytest
import torch

from gee_core.data.prepared import load_prepared
from gee_core.evaluation.noise import noisy_input
from gee_core.seeding import torch_generator
from pipelines import robustness
from pipelines.evaluate import run as evaluate

STRENGTHS = [0.0, 0.25, 0.5, 2.0]


@pytest.fixture(scope="module")
def params(make_params):
    return make_params(robustness={"strengths": STRENGTHS, "n_seeds": 3, "domain": "image"})


@pytest.fixture(scope="module")
def noise(params, net, digits):
    return pd.DataFrame(robustness.run(params, net, load_prepared(digits)))


def test_there_is_a_row_for_every_strength_and_seed(noise):
    assert list(noise) == ["domain", "r", "seed", "accuracy"]
    assert list(zip(noise.r, noise.seed, strict=True)) == [(r, seed) for r in STRENGTHS for seed in range(3)]
    assert set(noise.domain) == {"image"}


def test_without_noise_the_accuracy_is_that_of_evaluate_and_noise_lowers_it(noise, params, net, digits):
    metrics, _, _ = evaluate(params, net, load_prepared(digits))
    mean = noise.groupby("r").accuracy.mean()
    assert noise[noise.r == 0].accuracy.tolist() == [pytest.approx(metrics.test_accuracy)] * 3
    assert mean[2.0] < mean[0.0]


def test_an_accuracy_equals_the_networks_own_on_the_noisy_images(noise, params, net, digits):
    data = load_prepared(digits)
    generator, correct = torch_generator(params.base.seed, "noise", 1), 0
    for images, labels in data.test.batches(params.robustness.batch_size):
        x = noisy_input(images, data.meta.normalise, 0.5, "image", generator)
        with torch.no_grad():
            correct += (net(x).mean(0).argmax(1) == labels).sum().item()
    assert noise[(noise.r == 0.5) & (noise.seed == 1)].accuracy.item() == pytest.approx(correct / 24)


def test_the_noise_is_the_same_at_every_strength_and_another_for_every_seed(params, net, digits, monkeypatch):
    drawn, real = {}, torch.randn

    def spy(*args, generator=None, **kwargs):
        drawn.setdefault(len(drawn), n := real(*args, generator=generator, **kwargs))
        return n

    monkeypatch.setattr("gee_core.evaluation.noise.torch.randn", spy)
    robustness.run(params, net, load_prepared(digits))
    assert STRENGTHS[0] == 0
    assert len(drawn) == 3 * (1 + 3 * (len(STRENGTHS) - 1))  # three batches each; without noise there is one draw
    clean, *batches = [drawn[i] for i in range(0, len(drawn), 3)]  # the first batch of each
    assert torch.equal(clean, batches[0])
    assert all(torch.equal(batch, batches[i % 3]) for i, batch in enumerate(batches))
    assert not any(torch.equal(batches[0], batches[i]) for i in (1, 2))
    assert not torch.equal(drawn[0], drawn[1])  # and another for every batch


def test_the_seed_decides_the_noise(noise, net, digits, make_params):
    sections = {"robustness": {"strengths": STRENGTHS, "n_seeds": 3, "domain": "image"}}
    again, other = (robustness.run(make_params(**sections, base={"seed": seed}), net, load_prepared(digits)) for seed in (0, 1))
    assert again == noise.to_dict("records")
    assert [row["accuracy"] for row in other] != noise.accuracy.tolist()


def test_progress_advances_once_per_row(params, net, digits):
    steps = []
    rows = robustness.run(params, net, load_prepared(digits), lambda: steps.append(1))
    assert len(steps) == len(rows)


def test_the_metrics_are_means_over_seeds_at_the_papers_strength_and_at_none():
    measured = [(0.0, 0.9), (0.0, 0.9), (0.5, 0.5), (0.5, 0.7), (1.0, 0.1)]
    noise = [{"r": r, "accuracy": accuracy} for r, accuracy in measured]
    assert robustness.metrics(noise) == {"noise_accuracy": pytest.approx(0.6), "clean_accuracy": pytest.approx(0.9)}


def test_the_stage_writes_its_files(in_project, trained):
    folder = in_project()
    shutil.copytree(trained.parent, folder / "models/train")
    robustness.main()
    noise = pd.read_csv(folder / "reports/robustness/noise.csv")
    assert list(noise) == ["domain", "r", "seed", "accuracy"]
    assert len(noise) == 4
    metrics = json.loads((folder / "reports/robustness/metrics.json").read_text())
    assert metrics.pop("hardware_left_out") == {}
    assert metrics == pytest.approx(robustness.metrics(noise.to_dict("records")))
