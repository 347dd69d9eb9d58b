"""CIFAR-100's path with a made-up folder of 100 classes: prepared, evolved, trained and measured as ten classes are."""

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.config import PrepareConfig
from gee_core.data.prepared import load_prepared
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.hardware import Compute
from gee_core.model.network import count_parameters
from gee_core.model.wired import wired_network
from gee_core.training.loop import for_inference, outputs
from pipelines import evolve, prepare, train

N_CLASSES, SIZE = 100, 32


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """data/prepared of 100 classes of three training images and one test image each, told apart by their colour."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("out") / "prepared"
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for k in range(N_CLASSES):
            folder = raw / split / f"class_{k:03}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((SIZE, SIZE, 3), (25 * (k % 10), 25 * (k // 10), 128)) + rng.integers(0, 20, (SIZE, SIZE, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    values = {"dataset": "cifar100", "path": str(raw), "image_size": None, "max_train_images": None, "events": None}
    values |= {"max_test_images": None, "name": None, "test_share": 0.2, "holdout": 1 / 3, "split_seed": 0, "stream": False}
    prepare.run(PrepareConfig(**values), out)
    return out


def test_every_class_is_in_every_part_in_the_order_of_its_name(prepared):
    data = load_prepared(prepared)
    assert data.meta.num_classes == N_CLASSES
    assert list(data.meta.class_names) == [f"class_{k:03}" for k in range(N_CLASSES)]
    parts = (data.train.labels, data.test.labels, data.holdout_images().labels, data.proxy_train().labels)
    assert [torch.bincount(labels, minlength=N_CLASSES).tolist() for labels in parts] == [[n] * N_CLASSES for n in (3, 1, 1, 2)]
    red, green, _ = data.test.images.double().mean((2, 3)).T
    assert (red[9] - red[8], green[90] - green[80]) == (pytest.approx(25, abs=3), pytest.approx(25, abs=3))


@pytest.mark.slow
def test_a_network_for_them_has_an_output_per_class_and_can_be_evolved_and_trained(prepared, make_params, tmp_path):
    params = make_params(train={"epochs": 2})
    data = load_prepared(prepared)
    net = wired_network(params.network, data.meta, None, 0)
    ten = wired_network(params.network, data.meta.model_copy(update={"num_classes": 10}), None, 0)
    hidden = net.head[-1].in_features
    assert count_parameters(net) - count_parameters(ten) == 90 * (hidden + 1)
    start = configured_genotype(params.network)
    result = score(ProxyTask(prepared, params.base, params.network, params.evolve), Candidate(0, 0, 1, start))
    assert result.status == "ok"
    assert result.image_passes == 200
    best = Record(Candidate(0, 0, 1, start), result, 1.0, result.L_ce, 0.0)
    trained, rows, _ = train.run(params, evolve.genotype_file(params, best), data, tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2]
    compute = Compute.of("cpu", "fp32")
    pairs = outputs(for_inference(trained), data.test, 64, data.meta.normalise, compute)
    logits, labels = map(torch.cat, zip(*((o_TBK.mean(0), labels) for o_TBK, labels in pairs), strict=True))
    assert logits.shape == (N_CLASSES, N_CLASSES)
    assert labels.tolist() == list(range(N_CLASSES))
    assert logits.isfinite().all()
