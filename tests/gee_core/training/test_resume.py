"""A training that was stopped anywhere equals one that never stopped, bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gee_core.compute import Compute
from gee_core.config.train import Finish
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.model.network import build_network
from gee_core.training.optimizers import make_optimizer
from gee_core.training.resume import Resumable, adopt_format, training_tensors
from tests.gee_core.recipes import recipe, train

AUGMENT = Augment(crop_padding=1, flip=True, randaugment=3, erasing=0.5, noise=0.5)
NORMALISE = Normalise((0.5,) * 3, (0.3,) * 3)
RECIPE = recipe(AUGMENT, NORMALISE, epochs=2, label_smoothing=0.1, sizes=[6, 8], T_schedule=[1, 2], norm_images=8)
FINISH = replace(RECIPE, cfg=RECIPE.cfg.model_copy(update={"finish": Finish(levels=3, epochs=1)}))
IMAGES = PackedImages(
    torch.randint(0, 256, (22, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8), torch.arange(22) % 3
)
N_STEPS = 6  # the last batch is half full


def built(optimizer):
    neurons = {"neuron": "ilif", "levels": 3} if optimizer == "ilif" else {}
    net = build_network("resnet18", 3, 3, 8, 4, 1 / 32, 0, T=2, **neurons)
    if optimizer == "dropout":
        net.head.insert(0, nn.Dropout(0.5))
    return net, make_optimizer(optimizer if optimizer in ("sgd", "muon") else "adamw", net, 0.1, 0.9, 0.5, 2.0)


def run(folder, optimizer="adamw", stop=None, save_seconds=0.0):
    """What training changed, and what ``train`` returns."""
    how = FINISH if optimizer == "finish" else RECIPE
    net, optimizer = built(optimizer)
    states = Resumable(folder, "step", net, optimizer, N_STEPS, save_seconds)
    rows, taken = train(net, optimizer, IMAGES, how, states, stop)
    return training_tensors(net, optimizer), rows, taken


@pytest.mark.parametrize(
    ("optimizer", "place"), [("sgd", 0), ("muon", 7), ("dropout", 0), ("dropout", 7), ("ilif", 7), ("finish", 4), ("finish", 7)]
)
def test_stopped_after_a_step_it_ends_bit_for_bit_the_same_and_repeats_no_step(optimizer, place, tmp_path):
    tensors, rows, taken = run(None, optimizer)
    assert taken == [(epoch, step) for epoch in range(2) for step in range(1, N_STEPS)]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, optimizer, taken[place])
    again, same_rows, rest = run(tmp_path, optimizer)
    assert same_rows == rows
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in again)
    assert rest == taken[place + 1 :]


def test_work_goes_on_in_the_number_format_in_which_it_began(tmp_path):
    bf16, fp32 = Compute.of("cpu", "bf16"), Compute.of("cpu", "fp32")
    assert adopt_format(fp32, tmp_path / "new") == fp32
    assert adopt_format(bf16, tmp_path / "new") == fp32


def test_states_in_mid_epoch_are_kept_only_so_often_and_two_are_on_disk(tmp_path):
    for name, save_seconds, numbers in (("seldom", 1000.0, [N_STEPS]), ("always", 0.0, [N_STEPS + 2, N_STEPS + 3])):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / name, stop=(1, 3), save_seconds=save_seconds)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            f"step-{number:08}.{end}" for number in numbers for end in ("json", "safetensors")
        ]  # the end of an epoch always is


def flipped(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 4]) + data[-1:]


DAMAGE = {
    "a bit of a number": (".safetensors", flipped, True),
    "the end": (".safetensors", lambda data: data[:-1], True),
    "another number in the JSON": (".json", lambda data: data.replace(b"0.1", b"0.2"), True),
    "no JSON": (".json", None, False),  # as where writing was interrupted
    "no tensors": (".safetensors", None, False),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_where_the_newest_state_is_damaged_the_one_before_is_used_with_a_warning(damage, tmp_path, caplog):
    net = nn.Linear(2, 1)
    states = Resumable(tmp_path, "step", net, torch.optim.SGD(net.parameters()), 1)
    assert states.restore() == (0, [], None)
    for epochs in (1, 2, 3):
        nn.init.constant_(net.weight, epochs)
        states.keep(epochs, [{"loss": 0.1}] * epochs)
    end, spoil, warned = DAMAGE[damage]
    path = tmp_path / f"step-00000003{end}"
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    for n_messages in (warned, 0):  # nobody is told twice
        caplog.clear()
        assert states.restore() == (2, [{"loss": 0.1}] * 2, None)
        assert net.weight.tolist() == [[2.0, 2.0]]
        assert len(caplog.messages) == n_messages
        for message in caplog.messages:
            assert str(path.with_suffix("")) in message and message.endswith("; resuming from the state before it")
    states.keep(3, [])
    assert states.restore() == (3, [], None)
