import errno
import json
import os
import re
import shutil

import pandas as pd
import pytest
import torch

from gee_core.checkpoint import load
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.evaluation.accuracy import accuracy_and_loss
from gee_core.genome.encoding import genome_of
from gee_core.hardware import Compute
from gee_core.model.network import count_parameters
from gee_core.model.wired import architecture_of, wired_network
from gee_core.snn.lif import LIF
from gee_core.training.loop import for_inference
from pipelines import train
from pipelines.inputs.genotype_file import GenotypeFile

SIGMAS = GenotypeFile(network="vgg16", form="per_layer", n_genes=6, sigma_O=0.3, sigma_X=(0.4,) * 8, seed=7)
PLAIN = GenotypeFile(network="vgg16", form="per_layer", n_genes=None, sigma_O=None, sigma_X=None, seed=7)
BOTH = pytest.mark.parametrize(("n_genes", "genotype"), [(6, SIGMAS), (None, PLAIN)], ids=["genetic", "plain"])
AUGMENT = {"crop_padding": 1, "flip": True, "randaugment": 3, "erasing": 0.5}


RATED = ["stem.conv", *(f"body.{layer}.conv" for layer in (0, 2, 3, 5, 6, 8, 9))]
"""Layers of the small VGG-16 with neurons behind them."""


def settings(n_genes=6, **changes):
    """Sections for ``make_params``."""
    variant = "ste" if n_genes else "analytic"
    return {"network": {"n_genes": n_genes}, "evolve": {"variant": variant}, "train": changes}


def stop_after(epoch):
    def stop(row):
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return stop


def equal(left, right):
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


@BOTH
@pytest.mark.parametrize("include_holdout", [True, False])
def test_a_training_that_was_stopped_goes_on_and_ends_bit_for_bit_the_same(
    n_genes, genotype, include_holdout, digits, make_params, tmp_path
):
    params = make_params(**settings(n_genes, include_holdout=include_holdout, **AUGMENT))
    data = load_prepared(digits)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    net, rows, _ = train.run(params, genotype, data, tmp_path / "whole")
    for epoch in (1, 3):  # stopped twice
        with pytest.raises(KeyboardInterrupt):
            train.run(params, genotype, data, tmp_path / "stopped", stop_after(epoch))
    seen = []
    resumed, again, _ = train.run(params, genotype, data, tmp_path / "stopped", seen.append)
    assert again == rows == seen
    assert equal(net, resumed)
    states = [max((tmp_path / name).glob("step-*.safetensors")).read_bytes() for name in ("whole", "stopped")]
    assert states[0] == states[1]  # the optimiser's moments too


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_training_with_sgd_and_tet_that_was_stopped_ends_bit_for_bit_the_same(momentum, digits, make_params, tmp_path):
    changes = {"optimizer": "sgd", "momentum": momentum, "lr": 0.1, "loss": "tet", "tet_lambda": 0.05}
    params, data = make_params(**settings(**changes)), load_prepared(digits)
    for name in ("whole", "stopped", "other"):
        (tmp_path / name).mkdir()
    net, rows, _ = train.run(params, SIGMAS, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train.run(params, SIGMAS, data, tmp_path / "stopped", stop_after(2))
    resumed, again, _ = train.run(params, SIGMAS, data, tmp_path / "stopped")
    assert again == rows
    assert equal(net, resumed)
    other, *_ = train.run(make_params(**settings(**changes | {"loss": "ce"})), SIGMAS, data, tmp_path / "other")
    assert not equal(net, other)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_training_that_was_killed_while_it_saved_an_epoch_goes_on_all_the_same(
    epoch, digits, make_params, tmp_path, monkeypatch
):
    params, data = make_params(), load_prepared(digits)
    net, rows, _ = train.run(params, SIGMAS, data, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    import gee_core.checkpoint

    written, write = [], gee_core.checkpoint.write_json

    def killed(path, values):
        written.append(path)
        if len(written) == epoch:
            raise KeyboardInterrupt
        write(path, values)

    with monkeypatch.context() as patch:
        patch.setattr(gee_core.checkpoint, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            train.run(params, SIGMAS, data, tmp_path)
    resumed, again, _ = train.run(params, SIGMAS, data, tmp_path)
    assert again == rows
    assert equal(net, resumed)


def starts(monkeypatch):
    """The state dicts of the networks as they come to their first epoch."""
    found, real = [], train.train_epoch

    def first(net, optimizer, images, recipe, epoch, *more):
        if epoch == 0:
            found.append({name: value.clone() for name, value in net.state_dict().items()})
        return real(net, optimizer, images, recipe, epoch, *more)

    monkeypatch.setattr(train, "train_epoch", first)
    return found


@BOTH
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
    net, rows, _ = train.run(params, SIGMAS, data, tmp_path)
    assert sizes == [n] * 4
    columns = ["epoch", "lr", "train_loss", "train_accuracy"] + ["val_accuracy"] * (not include_holdout)
    assert [[key for key in row if not key.startswith("firing_rate/")] for row in rows] == [columns] * 4
    if not include_holdout:
        compute = Compute.of("cpu", "fp32")
        accuracy, _ = accuracy_and_loss(for_inference(net), data.holdout_images(), 5, data.meta.normalise, compute)
        assert rows[-1]["val_accuracy"] == pytest.approx(accuracy)


def test_the_last_rows_firing_rates_are_those_of_the_trained_networks_neurons(digits, make_params, tmp_path):
    params, data = make_params(**settings()), load_prepared(digits)
    net, rows, _ = train.run(params, SIGMAS, data, tmp_path)
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


@pytest.mark.parametrize(("n", "taken"), [(200, 64), (64, 64), (5, 5)])
def test_firing_rates_are_measured_on_images_from_the_whole_holdout(n, taken, digits):
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).clone()
    x = train.rate_images(PackedImages(images, torch.zeros(n, dtype=torch.int64)), Normalise((0.0,), (1 / 255,)))
    numbers = x[:, 0, 0, 0].round().int().tolist()
    assert (len(numbers), numbers[0], numbers[-1]) == (taken, 0, n - 1)
    assert numbers == sorted(set(numbers))


def test_the_learning_rate_warms_up_and_ends_at_its_least(digits, make_params, tmp_path):
    params = make_params(**settings(lr=0.01, lr_min=0.001))
    _, rows, _ = train.run(params, SIGMAS, load_prepared(digits), tmp_path)
    assert rows[0]["lr"] == 0.01  # of an epoch's last step; the first epoch warms up
    assert rows[-1]["lr"] == pytest.approx(0.001)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def write_genotype(folder, **changes):
    path = folder / "models/evolve/genotype.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(SIGMAS.model_dump() | changes))
    return path


def test_the_stage_writes_network_history_and_metrics_and_keeps_its_state_until_dvc_knows_of_them(
    in_project, make_params, monkeypatch
):
    folder = in_project()
    write_genotype(folder)
    train.main()
    history = pd.read_csv(folder / "reports/train/history.csv")
    rates = [f"firing_rate/{layer}" for layer in RATED]
    assert list(history) == ["epoch", "lr", "train_loss", "train_accuracy", *rates]
    assert ((history[rates] >= 0) & (history[rates] <= 1)).all(axis=None)
    assert history[rates].iloc[-1].sum() > 0
    assert len(history) == 4
    metrics = json.loads((folder / "reports/train/metrics.json").read_text())
    params, meta = make_params(), load_prepared(folder / "data/prepared").meta
    net = load(folder / "models/train/network.safetensors")
    assert architecture_of(net).network == params.network
    plain = wired_network(params.network.model_copy(update={"n_genes": None}), meta, None, 0)
    assert metrics == {
        "train_loss": history.train_loss.iloc[-1],
        "train_accuracy": history.train_accuracy.iloc[-1],
        "parameters": count_parameters(net),
        "plain_parameters": count_parameters(plain),
    }
    assert genome_of(net) is not None
    saved = json.loads((folder / "models/train/network.json").read_text())
    assert list(saved) == ["network", "num_classes", "in_channels", "image_size", "sha256"]
    files = [path for path in (folder / ".scratch").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files if path.suffix != ".json")[0] == "done"
    names = ["models/train/network.safetensors", "reports/train/history.csv"]
    before = [(folder / name).read_bytes() for name in names]
    with monkeypatch.context() as patch:  # `dvc` was killed before it wrote dvc.lock, and runs the stage again
        patch.setattr(train, "train_epoch", lambda *_: pytest.fail("trained again"))
        train.main()
    assert [(folder / name).read_bytes() for name in names] == before


def test_a_full_disk_stops_the_stage_with_one_message_and_the_next_start_goes_on(in_project, capsys, monkeypatch):
    folder = in_project()
    write_genotype(folder)
    names = ["models/train/network.safetensors", "reports/train/history.csv"]
    train.main()
    whole = [(folder / name).read_bytes() for name in names]
    for name in ("models/train", "reports", ".scratch"):
        shutil.rmtree(folder / name)
    replace, left = os.replace, iter(range(5))  # two files a state

    def full(*paths):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(SystemExit) as caught:
            train.main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"train: error: \.scratch/train/\w+/step-\d+\.json: cannot be written \(no space .*\): free some .*", line
    )
    epochs, real = [], train.train_epoch
    monkeypatch.setattr(train, "train_epoch", lambda *a: (epochs.append(a[4]), real(*a))[1])
    train.main()
    assert epochs == [2, 3]
    assert [(folder / name).read_bytes() for name in names] == whole


def test_a_training_that_diverges_is_one_message_and_no_file(in_project, capsys):
    folder = in_project(train={"lr": 1e30})
    write_genotype(folder)
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("train: error: train: the training loss is nan in epoch")
    assert "lower train.lr = 1e+30" in message
    assert not (folder / "models/train").exists()
    assert not (folder / "reports").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "not found"),
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"network": "vgg16", "n_genes": 6, "seed": 1}', "damaged"),
        (json.dumps(SIGMAS.model_dump() | {"network": "resnet19"}), "a genotype of another network"),
        (json.dumps(SIGMAS.model_dump() | {"n_genes": 7}), "a genotype of another network"),
    ],
)
def test_a_genotype_that_is_no_use_is_refused_with_a_remedy(text, reason, make_params, tmp_path):
    path = tmp_path / "genotype.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        train.load_genotype(path, make_params())
    assert str(path) in str(caught.value)
    assert "dvc repro evolve" in str(caught.value)
    assert "\n" not in str(caught.value)
