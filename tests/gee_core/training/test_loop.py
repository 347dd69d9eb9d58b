"""One epoch, checked with networks small enough to know every step of."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.model.network import build_network
from gee_core.rank import ALONE, Rank
from gee_core.training import loop
from gee_core.training.loop import outputs, train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.recipe import learning_rate, steps_per_epoch
from tests.gee_core.recipes import AS_THEY_ARE, FP32, recipe


def numbered(n: int, n_classes: int = 2, size: int = 2) -> PackedImages:
    """Images whose every pixel is their number, which with ``recipe()`` is also what the network sees."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, size, size).clone()
    return PackedImages(images, torch.arange(n) % n_classes)


class Linear(nn.Module):
    """Mean pixel → logits of two steps, the second twice the first; notes what it saw and at which learning rate."""

    def __init__(self, n_classes: int = 2):
        super().__init__()
        self.fc = nn.Linear(1, n_classes)
        nn.init.ones_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.seen: list[list[int]] = []

    def forward(self, x):
        self.seen.append(x.mean((1, 2, 3)).round().int().tolist())
        self.mode = self.training
        o = self.fc(x.mean((2, 3)) / 10)
        return torch.stack([o, 2 * o])


@pytest.mark.parametrize(("n", "batch", "steps"), [(9, 4, 2), (10, 4, 3), (1, 4, 1), (7, 5, 1)])
def test_an_epoch_takes_a_last_batch_that_is_at_least_half_full(n, batch, steps):
    assert steps_per_epoch(n, batch) == steps
    net = Linear()
    train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(n), recipe(batch_size=batch), 0)
    assert len(net.seen) == steps


def test_an_epochs_record_is_the_mean_over_images_of_each_steps_loss_before_its_update():
    net, images, settings = Linear(), numbered(6), recipe(label_smoothing=0.2)
    walker, loss_sum, correct = copy.deepcopy(net), 0.0, 0
    optimizer = make_optimizer("adamw", net, 0.0)
    record = train_epoch(net, optimizer, images, settings, 1)
    slow = torch.optim.AdamW(walker.parameters(), weight_decay=0.0, lr=1.0)
    for step, numbers in enumerate(net.seen):  # batches of 4 and 2
        o, labels = walker(images.images[numbers].float()), images.labels[numbers]
        logits = (o[0] + o[1]) / 2
        smooth = 0.8 * F.one_hot(labels, 2) + 0.2 / 2
        losses = -(smooth * logits.log_softmax(1)).sum(1)
        slow.param_groups[0]["lr"] = learning_rate(2 + step, 6, 2, 0.01)
        slow.zero_grad()
        losses.mean().backward()
        slow.step()
        loss_sum, correct = loss_sum + losses.sum().item(), correct + (logits.argmax(1) == labels).sum().item()
    assert [len(numbers) for numbers in net.seen] == [4, 2] and net.mode
    assert sorted([*net.seen[0], *net.seen[1]]) == list(range(6))
    assert (record.epoch, record.lr) == (2, pytest.approx(learning_rate(3, 6, 2, 0.01)))
    assert record.train_loss == pytest.approx(loss_sum / 6, rel=1e-5)
    assert record.train_accuracy == correct / 6
    torch.testing.assert_close(net.fc.weight, walker.fc.weight)


def test_the_gradients_of_two_processes_average_to_that_of_the_whole_batch(monkeypatch):
    """The three images are shared as one and two, and what the processes would exchange is left out."""
    monkeypatch.setattr(loop, "summed", lambda sums, rank: sums)
    monkeypatch.setattr(loop, "share_statistics", lambda net, rank: None)

    def gradient(rank: Rank) -> torch.Tensor:
        net = Linear()
        train_epoch(
            net,
            torch.optim.SGD([{"params": net.parameters(), "lr_factor": 0.0}]),
            numbered(3),
            recipe(compute=replace(FP32, rank=rank), batch_size=3),
            0,
        )
        return net.fc.weight.grad

    parts = [gradient(Rank(number, 2)) for number in range(2)]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, gradient(ALONE))
    assert not torch.allclose(parts[0], parts[1])


def test_the_draws_of_an_epoch_depend_on_seed_and_epoch_alone():
    augment = Augment(crop_padding=1, flip=True, randaugment=3, erasing=0.5, noise=0.5)

    def seen(seed, epochs, global_seed):
        torch.manual_seed(global_seed)
        net = Linear()
        for epoch in epochs:
            net.seen.clear()
            train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(8, size=4), recipe(seed=seed, augment=augment), epoch)
        return net.seen

    assert seen(0, [2], 1) == seen(0, [0, 1, 2], 2)
    assert seen(0, [2], 1) != seen(0, [1], 1)
    assert seen(0, [2], 1) != seen(1, [2], 1)


def test_the_loss_falls_on_a_few_images_and_the_global_generator_is_left_alone():
    state, generator = torch.random.get_rng_state(), torch.Generator().manual_seed(0)
    images = PackedImages(torch.randint(0, 256, (16, 1, 8, 8), generator=generator).to(torch.uint8), torch.arange(16) % 4)
    net = build_network("cifarnet", 4, 1, 8, 8, 1 / 16, T=2)
    settings = recipe(epochs=20, batch_size=8, lr=0.02, normalise=Normalise((0.5,), (0.3,)))
    optimizer = make_optimizer("adamw", net, 0.0)
    records = [train_epoch(net, optimizer, images, settings, epoch) for epoch in range(20)]
    assert records[-1].train_loss < 0.5 * records[0].train_loss
    assert records[-1].train_accuracy > records[0].train_accuracy
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loss_that_is_no_longer_finite_ends_the_epoch_with_its_number():
    net = Linear()
    net.fc.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the training loss is nan in epoch 3"):
        train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(8), recipe(), 2)


def test_outputs_come_in_order_without_gradient():
    net = Linear().eval()
    pairs = list(outputs(net, numbered(7), 3, AS_THEY_ARE, FP32))
    o_TBK = torch.cat([o for o, _ in pairs], 1)
    assert torch.cat([labels for _, labels in pairs]).tolist() == [0, 1, 0, 1, 0, 1, 0]
    torch.testing.assert_close(o_TBK[0, :, 0], torch.arange(7) / 10)
    torch.testing.assert_close(o_TBK[1], 2 * o_TBK[0])
    assert not o_TBK.requires_grad


class Normed(Linear):
    """Batch norm over one value per image, so over one value in all where a batch is one image."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return super().forward(self.norm(x))


def test_a_batch_of_one_image_that_batch_norm_cannot_take_is_an_input_error_that_names_the_setting():
    net = Normed()
    with pytest.raises(InputError, match=r"^batch_size: 1 image of 1 pixels is one value per channel .* set it to 3 or more$"):
        train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(3, size=1), recipe(batch_size=2), 0)


@pytest.mark.parametrize(
    ("values", "epochs", "expected"),
    [
        ((), 2, [None, None]),
        ((16,), 3, [16] * 3),
        ((16, 24, 32), 3, [16, 24, 32]),
        ((1, 2), 5, [1, 1, 1, 2, 2]),
        ((1, 2, 3), 2, [2, 3]),
    ],
)
def test_sizes_and_steps_follow_the_parts_of_the_epochs(values, epochs, expected):
    how = recipe(epochs=epochs, sizes=values, T_schedule=values)
    assert [how.size_of(epoch) for epoch in range(epochs)] == expected
    assert [how.T_of(epoch) for epoch in range(epochs)] == expected


def test_an_epoch_trains_at_its_size_and_steps_and_the_network_keeps_its_own():
    net = build_network("resnet18", 2, 1, 8, 2, 1 / 64, T=4)
    seen = []
    net.register_forward_hook(lambda net, args, o: seen.append((args[0].shape[-1], len(o))))
    how = recipe(sizes=[4, 6, 8], T_schedule=[1, 2, 3])
    for epoch in range(3):
        train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(8, size=8), how, epoch)
    assert seen == [(4, 1), (4, 1), (6, 2), (6, 2), (8, 3), (8, 3)]
    assert net.T == 4 and net(torch.zeros(2, 1, 8, 8)).shape[0] == 4
