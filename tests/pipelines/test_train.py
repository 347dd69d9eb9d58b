"""What a training run starts from, trains on and reports; a run that was interrupted ends as one that was not."""

import pytest
import torch

from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared
from gee_core.errors import DivergedError
from gee_core.hardware import Compute
from gee_core.model.wired import wired_network
from gee_core.snn.lif import LIF
from gee_core.training.loop import accuracy_and_loss, for_inference
from pipelines import train
from tests.pipelines.train_cases import ALL, PLAIN, RATED, SIGMAS, settings


def starts(monkeypatch):
    """The state dicts of the networks at the start of their first epoch."""
    found, real = [], train.train_epoch

    def first(net, optimizer, images, recipe, epoch, *more):
        if epoch == 0:
            found.append({name: value.clone() for name, value in net.state_dict().items()})
        return real(net, optimizer, images, recipe, epoch, *more)

    monkeypatch.setattr(train, "train_epoch", first)
    return found


@ALL
def test_the_very_wiring_that_was_scored_is_trained(n_genes, genotype, digits, make_params, tmp_path, monkeypatch):
    found, data = starts(monkeypatch), load_prepared(digits)
    params = make_params(**settings(n_genes))
    train.run(params, genotype, data, tmp_path)
    scored = wired_network(params.network, data.meta, genotype.genotype, 7).state_dict()
    assert all(torch.equal(value, found[0][name]) for name, value in scored.items())


def test_a_fresh_wiring_is_another_draw_with_the_same_sigmas_whatever_the_candidates_seed(
    digits, make_params, tmp_path, monkeypatch
):
    found, data = starts(monkeypatch), load_prepared(digits)
    for name, wiring_seed, seed in (("a", "candidate", 7), ("b", "fresh", 7), ("c", "fresh", 8)):
        (tmp_path / name).mkdir()
        train.run(
            make_params(**settings(wiring_seed=wiring_seed)), SIGMAS.model_copy(update={"seed": seed}), data, tmp_path / name
        )
    candidate, fresh, again = (start["genome.O"] for start in found)
    assert not torch.equal(candidate, fresh)
    assert torch.equal(fresh, again)
    assert candidate.std() == pytest.approx(fresh.std().item(), rel=0.4)
    assert max(candidate.abs().max(), fresh.abs().max()) <= 2 * 0.3


@pytest.mark.parametrize(("include_holdout", "n"), [(True, 64), (False, 48)])
def test_the_holdout_is_trained_on_or_watched(include_holdout, n, digits, make_params, tmp_path, monkeypatch):
    sizes, real = [], train.train_epoch
    monkeypatch.setattr(
        train, "train_epoch", lambda net, o, images, *a: (sizes.append(len(images)), real(net, o, images, *a))[1]
    )
    params, data = make_params(**settings(include_holdout=include_holdout)), load_prepared(digits)
    net, rows, *_ = train.run(params, SIGMAS, data, tmp_path)
    assert sizes == [n] * 4
    columns = ["epoch", "lr", "train_loss", "train_accuracy"] + ["val_accuracy", "val_loss"] * (not include_holdout)
    assert [[key for key in row if not key.startswith("firing_rate/")] for row in rows] == [columns] * 4
    if not include_holdout:
        compute = Compute.of("cpu", "fp32")
        measured = accuracy_and_loss(for_inference(net), data.holdout_images(), 5, data.meta.normalise, compute)
        assert (rows[-1]["val_accuracy"], rows[-1]["val_loss"]) == pytest.approx(measured)


def test_the_last_rows_firing_rates_are_those_of_the_trained_networks_neurons(digits, make_params, tmp_path):
    params, data = make_params(**settings()), load_prepared(digits)
    net, rows, *_ = train.run(params, SIGMAS, data, tmp_path)
    spikes, net = {}, net.eval()
    for name, module in net.named_modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda m, args, s, name=name: spikes.setdefault(name, s))
    holdout = data.holdout_images()
    assert len(holdout) <= train.RATE_IMAGES
    with torch.no_grad():
        net(data.meta.normalise(holdout.images))
    counted = [s.double().mean().item() for s in spikes.values()]
    assert [rows[-1][f"firing_rate/{layer}"] for layer in RATED] == pytest.approx(counted)
    assert sum(counted) > 0


@pytest.mark.parametrize(("n", "taken"), [(200, 64), (5, 5)])
def test_firing_rates_are_measured_on_images_from_the_whole_holdout(n, taken, digits):
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).clone()
    x = train.rate_images(PackedImages(images, torch.zeros(n, dtype=torch.int64)), Normalise((0.0,), (1 / 255,)))
    numbers = x[:, 0, 0, 0].round().int().tolist()
    assert (len(numbers), numbers[0], numbers[-1]) == (taken, 0, n - 1)
    assert numbers == sorted(set(numbers))


def stop_after(epoch):
    def stop(row):
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return stop


def equal(left, right):
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


QUANTISE = {"format": "int4", "epochs": 2}


@pytest.mark.parametrize(
    ("n_genes", "genotype", "changes"),
    [
        (6, SIGMAS, {"include_holdout": True, "crop_padding": 1, "randaugment": 3, "noise": 0.5, "spike_penalty": 1.0}),
        (None, PLAIN, {"include_holdout": False, "flip": True, "erasing": 0.5, "whiten": True}),
        (6, SIGMAS, {"optimizer": "sgd", "lr": 0.1, "loss": "tet", "tet_lambda": 0.05, "quantise": QUANTISE, "whiten": True}),
    ],
    ids=["genetic", "plain", "tet, rounded"],
)
def test_a_training_that_was_stopped_goes_on_and_ends_bit_for_bit_the_same(
    n_genes, genotype, changes, digits, make_params, tmp_path
):
    params, data = make_params(**settings(n_genes, **changes)), load_prepared(digits)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    net, rows, *_ = train.run(params, genotype, data, tmp_path / "whole")
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train.run(params, genotype, data, tmp_path / "stopped", stop_after(epoch))
    seen, epochs = [], []
    resumed, again, *_ = train.run(params, genotype, data, tmp_path / "stopped", seen.append, on_step=epochs.append)
    assert again == rows == seen
    assert equal(net, resumed)
    states = [max((tmp_path / name).glob("step-*.safetensors")).read_bytes() for name in ("whole", "stopped")]
    assert states[0] == states[1]  # the optimiser's moments too
    steps = 4 if params.train.include_holdout else 3
    assert epochs == [3 + step / steps for step in range(1, steps)]


def test_a_training_that_diverges_says_what_to_lower(digits, make_params, tmp_path):
    with pytest.raises(DivergedError, match=r"train: the training loss is nan in epoch .*: lower train\.lr = 1e\+30"):
        train.run(make_params(train={"lr": 1e30}), SIGMAS, load_prepared(digits), tmp_path)
