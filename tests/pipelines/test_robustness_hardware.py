"""The defects of hardware in the stage robustness."""

import json
import shutil

import pandas as pd
import pytest

from gee_core.data.prepared import load_prepared
from gee_core.evaluation.hardware_noise import disturbed
from gee_core.model.network import build_network
from gee_core.training.loop import for_inference
from pipelines import robustness
from pipelines.evaluate import run as evaluate
from pipelines.inputs.trained_network import load_trained

HARDWARE = {"n_draws": 2, "max_images": None, "weights": [0.0, 0.5, 50.0], "dropped": [0.0, 1.0], "gene_bits": [0.0, 0.5]}


@pytest.fixture
def data(digits):
    return load_prepared(digits)


@pytest.fixture
def net(data, make_params, trained):
    return load_trained(make_params(), data.meta, trained)


@pytest.fixture
def with_hardware(make_params):
    return lambda **changes: make_params(robustness={"hardware": HARDWARE | changes})


def test_there_is_a_row_per_domain_strength_and_draw_and_progress_for_each(with_hardware, net, data):
    steps = []
    rows = robustness.run_hardware(with_hardware(), net, data, lambda: steps.append(1))
    expected = [(d, s, draw) for d in ("weights", "dropped", "gene_bits") for s in HARDWARE[d] for draw in (0, 1)]
    assert [(row["domain"], row["strength"], row["draw"]) for row in rows] == expected
    assert len(steps) == len(rows)


def test_strength_0_is_the_accuracy_of_evaluate_and_a_strong_defect_lowers_it(with_hardware, net, data):
    params = with_hardware()
    clean = evaluate(params, net, data)[0].test_accuracy
    rows = pd.DataFrame(robustness.run_hardware(params, net, data)).set_index(["domain", "strength"])["accuracy"]
    assert [*rows["weights", 0.0], *rows["dropped", 0.0]] == [pytest.approx(clean)] * 4
    assert rows["weights", 50.0].mean() < clean - 0.2 and rows["dropped", 1.0].mean() < clean - 0.2


def test_an_accuracy_is_that_of_the_disturbed_network(with_hardware, net, data):
    params = with_hardware()
    rows = robustness.run_hardware(params, net, data)
    images, labels = next(data.test.batches(100))
    for row in rows:
        if row["draw"] == 1 and row["domain"] != "dropped":  # whose faults depend on the batches
            faulty = disturbed(net, row["domain"], row["strength"], params.base.seed, 1)
            found = faulty(data.meta.normalise(images)).mean(0).argmax(1)
            assert row["accuracy"] == pytest.approx((found == labels).float().mean().item())


def test_without_defects_nothing_is_measured(make_params, net, data):
    assert robustness.run_hardware(make_params(), net, data) == []
    assert robustness.left_out(make_params(), net) == {}


def test_what_does_not_exist_for_a_plain_network_is_left_out_with_a_reason(with_hardware, data):
    plain = for_inference(build_network("vgg16", 10, 1, 8, None, 1 / 16, T=2))
    params = with_hardware()
    assert {row["domain"] for row in robustness.run_hardware(params, plain, data)} == {"weights", "dropped"}
    assert robustness.left_out(params, plain) == {"gene_bits": "the network is plain and has no genes"}


def test_at_most_so_many_images_are_used_the_same_in_every_run(with_hardware, net, data, monkeypatch):
    used = []

    def spy(net, images, *rest):
        used.append(images)
        return 0.5, 0.0

    monkeypatch.setattr(robustness, "accuracy_and_loss", spy)
    for most in (7, 7, 24, 1000, None):
        robustness.run_hardware(with_hardware(max_images=most, weights=[0.1], dropped=None, gene_bits=None), net, data)
    sizes = [len(images) for images in used[::2]]
    assert sizes == [7, 7, 24, 24, 24]
    assert used[0].labels.tolist() == used[2].labels.tolist()
    assert used[0].images.equal(used[2].images)


def test_the_metrics_are_means_over_the_draws_by_domain_and_strength():
    rows = [{"domain": "weights", "strength": 0.25, "draw": draw, "accuracy": a} for draw, a in enumerate((0.5, 0.7))]
    rows += [{"domain": "lost_step", "strength": 1, "draw": 0, "accuracy": 0.4}]
    assert robustness.hardware_metrics(rows) == {
        "hardware/weights/0.25": pytest.approx(0.6),
        "hardware/lost_step/1": pytest.approx(0.4),
    }


@pytest.mark.parametrize("hardware", [HARDWARE, None], ids=["measured", "null"])
def test_the_stage_writes_the_rows_or_a_header(in_project, trained, hardware):
    folder = in_project(robustness={"hardware": hardware})
    shutil.copytree(trained.parent, folder / "models/train")
    robustness.main()
    table = pd.read_csv(folder / "reports/robustness/hardware.csv")
    assert list(table) == ["domain", "strength", "draw", "accuracy"]
    assert len(table) == (2 * 7 if hardware else 0)
    assert len(pd.read_csv(folder / "reports/robustness/noise.csv")) == 4
    assert json.loads((folder / "reports/robustness/metrics.json").read_text())["hardware_left_out"] == {}
