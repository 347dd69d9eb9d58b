import functools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import accuracy_curves
from benchmarks.accuracy_contenders import contender, sections_of, use_spikingjelly
from benchmarks.accuracy_curves import choose_lr, curve_path, train_curve, tried_rates
from benchmarks.accuracy_times import reached
from benchmarks.time_to_accuracy import add_measurement, compare, recipe_values, result
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, load_prepared, write_prepared
from gee_core.errors import InputError
from gee_core.model.network import build
from gee_core.model.wired import describe
from gee_core.snn import kernels
from gee_core.storage.atomic_files import write_json

TIMES = {("a", 16, 2): 0.5, ("a", 32, 4): 2.0, ("b", 32, 4): 3.0}
TINY = ["network.width=0.0625", "network.n_genes=4", "train.batch_size=8", "train.sizes=[8, 16]", "train.T_schedule=null"]


def row(accuracy, size=32, T=4, images=100):
    return {"epoch": 0, "size": size, "T": T, "images": images, "test_accuracy": accuracy}


@pytest.mark.parametrize(("target", "found"), [(0.7, (100.0, 200)), (0.71, (500.0, 400)), (0.95, None)])
def test_seconds_are_summed_up_to_the_first_epoch_that_passes(target, found):
    rows = [row(0.5, 16, 2), row(0.7, 16, 2), row(0.65), row(0.9)]
    assert reached(rows, target, TIMES, "a") == found
    rows[-1]["norm_images"] = 10  # the statistics of batch norm take their seconds after the last epoch
    assert reached(rows, 0.8, TIMES | {("a", "norm"): 0.1}, "a") == (501.0, 400)
    assert reached(rows, 0.8, TIMES, "a") == (None, 400)


def test_ratios_are_of_medians_over_seeds_and_a_target_that_most_seeds_miss_has_none():
    times = {(name, 32, 4): 1.0 + i for i, name in enumerate(("genetic", "unencoded", "spikingjelly_default"))}
    slow, quick, never = [row(0.1), row(0.75)], [row(0.75)], [row(0.1), row(0.2)]
    curves = {"genetic": [quick, slow, never], "unencoded": [quick] * 3, "spikingjelly_default": [slow, never, never]}
    found = compare(curves, times, (0.7,))["to_70"]
    assert found["seconds"]["genetic"] == [100.0, 200.0, None]
    assert found["median_seconds"] == {"genetic": 200.0, "unencoded": 200.0, "spikingjelly_default": None}
    assert found["median_images"]["genetic"] == 200
    assert found["genetic_over_unencoded"] == 1.0
    assert found["vs_spikingjelly_default"] is None
    assert found["vs_spikingjelly_best"] is None
    curves["spikingjelly_default"] = [slow] * 3
    assert compare(curves, times, (0.7,))["to_70"]["vs_spikingjelly_default"] == 3.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """32 training images of 16 pixels, half of them the hold-out, and 16 test images."""
    folder = tmp_path_factory.mktemp("images") / "prepared"
    pixels = torch.randint(0, 256, (48, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = PackedImages(pixels, torch.arange(48) % 2)
    train, test = images.subset(torch.arange(32)), images.subset(torch.arange(32, 48))
    source = Source("random", ("a", "b"), train, test, torch.arange(16))
    write_prepared(folder, "cifar10", source, mean=(0.5,) * 3, std=(0.3,) * 3)
    return load_prepared(folder)


@functools.cache
def sections(name):
    """Of a contender whose two epochs on `data` take a moment."""
    return sections_of(recipe_values("digits", [*TINY, "base.precision=fp32"], 2, None), name)


@pytest.mark.slow
def test_a_stopped_curve_goes_on_to_the_rows_of_an_undisturbed_one_and_not_with_another_recipe(data, tmp_path):
    side = contender(sections("genetic"), "genetic")
    whole = train_curve(tmp_path / "whole.json", side, data.meta, data.train, data.test)

    def stop(row):
        raise KeyboardInterrupt

    path, again = tmp_path / "stopped.json", []
    with pytest.raises(KeyboardInterrupt):
        train_curve(path, side, data.meta, data.train, data.test, stop)
    assert len(accuracy_curves.read_curve(path)["rows"]) == 1
    with pytest.raises(InputError, match=r"stopped\.json: the curve of a run with another base\.seed, train\.lr"):
        other = contender(sections("genetic"), "genetic", seed=1, lr=1e-3)
        train_curve(path, other, data.meta, data.train, data.test)
    assert train_curve(path, side, data.meta, data.train, data.test, again.append) == whole
    assert [row["epoch"] for row in again] == [2]
    assert [(row["size"], row["T"], row["images"]) for row in whole["rows"]] == [(8, 1, 32), (16, 1, 32)]
    assert not path.with_suffix("").exists()


def test_a_diverged_run_is_the_worst_learning_rate_and_the_best_is_no_end_of_those_that_were_tried(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(accuracy_curves, "MAX_FURTHER", 0)
        assert choose_lr(tmp_path, "unencoded", sections("unencoded"), data, grid=(1e38, 1e-3)) == 1e-3
    rows = tried_rates(tmp_path)
    assert [row["lr"] for row in rows] == [1e-3, 1e38]
    assert rows[0]["holdout_accuracy"] > rows[1]["holdout_accuracy"] == 0.0
    tried = []

    def scored(path, side, *images):
        tried.append(side.params.train.lr)
        return {"diverged": False, "rows": [{"test_accuracy": 1 - abs(side.params.train.lr - 0.02)}]}

    monkeypatch.setattr(accuracy_curves, "train_curve", scored)
    assert choose_lr(tmp_path, "spikingjelly", sections("spikingjelly"), data, grid=(0.005, 0.01)) == 0.02
    assert tried == [0.005, 0.01, 0.02, 0.04]


@pytest.mark.parametrize("name", ["spikingjelly_best", "spikingjelly_ilif"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_this_library_has_the_loss_and_gradients_of_spikingjellys_layers(monkeypatch, fused, name):
    monkeypatch.setattr(kernels, "compiles", lambda x: fused)
    monkeypatch.setattr(kernels, "_compiled", lambda loop, on_gpu: loop)
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 4
    results = []
    for theirs in (False, True):
        network = contender(sections(name), name).params.network.model_copy(update={"n_genes": None, "width": 0.0625})
        images = SimpleNamespace(num_classes=4, in_channels=3, image_size=16)
        net = build(describe(network, images), 0).train()
        if theirs:
            use_spikingjelly(net, contiguous=True)
        loss = F.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)).mean(0), labels, label_smoothing=0.1)
        loss.backward()
        results.append((loss.detach(), [p.grad for p in net.parameters()]))
    (loss, gradients), (their_loss, their_gradients) = results
    torch.testing.assert_close(loss, their_loss, rtol=1e-6, atol=1e-6)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    for gradient, their_gradient in zip(gradients, their_gradients, strict=True):
        torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-5 * their_gradient.abs().max().item())


def written_curve(state, name, rows):
    """A curve's file with these rows."""
    side = contender(sections(name), name).params
    identity = {part: getattr(side, part).model_dump(mode="json") for part in ("network", "train")}
    write_json(curve_path(state, name, 0), {"identity": identity, "epochs": 2, "diverged": False, "rows": rows})


def test_times_are_medians_over_measurements_of_one_machine_and_ratios_are_told_for_each(tmp_path):
    for name in ("genetic", "unencoded"):
        written_curve(tmp_path, name, [row(0.65)])
    path, machine = tmp_path / "times.json", {"of": {}, "machine": "this"}

    def measured(*seconds):
        names = ("genetic", "unencoded")
        rows = [{"contender": n, "size": 32, "T": 4, "seconds_per_image": s} for n, s in zip(names, seconds, strict=True)]
        return {"rounds": 5, "rows": rows}

    add_measurement(path, machine | {"machine": "another"}, measured(9.0, 9.0))
    for seconds in ((1.0, 2.0), (3.0, 2.5), (2.0, 2.0)):
        add_measurement(path, machine, measured(*seconds))
    found = result(tmp_path, "fused", 1)
    assert found["to_60"]["median_seconds"] == {"genetic": 200.0, "unencoded": 200.0}
    assert found["to_60"]["genetic_over_unencoded"] == 1.0
    assert found["to_60"]["by_measurement"]["genetic_over_unencoded"] == [0.5, 1.2, 1.0]
    assert found["to_60"]["by_measurement"]["vs_spikingjelly_best"] == [None] * 3
    assert [row["seconds_per_image"] for row in found["rows"]] == [2.0, 2.0]
