"""A training that was stopped anywhere equals one that never stopped, bit for bit."""

from dataclasses import asdict

import pytest
import torch
from torch import nn

from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.resume import Resumable, begun, training_tensors
from tests.gee_core.recipes import recipe

AUGMENT = Augment(crop_padding=1, flip=True, randaugment=3, erasing=0.5, noise=0.5)
NORMALISE = Normalise((0.5,) * 3, (0.3,) * 3)
RECIPE = recipe(AUGMENT, NORMALISE, epochs=2, label_smoothing=0.1, sizes=[6, 8], T_schedule=[1, 2], norm_images=8)
IMAGES = PackedImages(
    torch.randint(0, 256, (22, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8), torch.arange(22) % 3
)
N_STEPS = 6  # the last batch is half full


def built(optimizer):
    net = build_network("resnet18", 3, 3, 8, 4, 1 / 32, 0, T=2)
    if optimizer == "dropout":
        net.head.insert(0, nn.Dropout(0.5))
    return net, make_optimizer(optimizer if optimizer in ("sgd", "muon") else "adamw", net, 0.1, 0.9, 0.5, 2.0)


def train(folder, optimizer="adamw", stop=None, save_seconds=0.0):
    """Two epochs; ``stop`` (epoch, step) breaks off after a step. Network, optimiser, rows, and the steps taken."""
    net, optimizer = built(optimizer)
    states = Resumable(folder, "step", net, optimizer, N_STEPS, save_seconds)
    first, rows, mid_epoch = states.restore()
    taken = []
    for epoch in range(first, RECIPE.cfg.epochs):
        keep = states.periodic_saver(epoch, rows)

        def on_step(mid_epoch, epoch=epoch, keep=keep):
            taken.append((epoch, mid_epoch.step))
            keep(mid_epoch)
            if (epoch, mid_epoch.step) == stop:
                raise KeyboardInterrupt

        rows.append(asdict(train_epoch(net, optimizer, IMAGES, RECIPE, epoch, mid_epoch, on_step)))
        mid_epoch = None
        states.keep(len(rows), rows)
    return training_tensors(net, optimizer), rows, taken


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "dropout"])
def test_stopped_after_a_step_it_ends_bit_for_bit_the_same_and_repeats_no_step(optimizer, tmp_path):
    tensors, rows, taken = train(None, optimizer)
    assert taken == [(epoch, step) for epoch in range(2) for step in range(1, N_STEPS)]
    for number in (0, 7):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            train(folder, optimizer, taken[number])
        found, again, rest = train(folder, optimizer)
        assert again == rows
        assert same(found, tensors)
        assert rest == taken[number + 1 :]


def test_work_goes_on_in_the_number_format_in_which_it_began(tmp_path):
    bf16, fp32 = Compute.of("cpu", "bf16"), Compute.of("cpu", "fp32")
    assert begun(fp32, tmp_path / "new") == fp32
    assert begun(bf16, tmp_path / "new") == fp32


def test_a_damaged_state_costs_the_steps_since_the_one_before(tmp_path, caplog):
    tensors, rows, taken = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=(1, 3))
    newest = tmp_path / f"step-{N_STEPS + 3:08}.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    found, again, rest = train(tmp_path)
    assert again == rows
    assert same(found, tensors)
    assert rest == taken[taken.index((1, 3)) :]
    assert len(caplog.messages) == 1
    assert str(newest) in caplog.messages[0]


def test_states_in_mid_epoch_are_kept_only_so_often(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=(1, 3), save_seconds=1000.0)
    assert [path.stem for path in tmp_path.glob("*.safetensors")] == [f"step-{N_STEPS:08}"]  # the end of an epoch always is
