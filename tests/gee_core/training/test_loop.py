"""One epoch, checked with networks small enough to know every step of, and epochs of integers before the last."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gee_core.config.train import Finish
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.model.base import with_steps
from gee_core.model.network import build_network
from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF
from gee_core.training.loop import accuracy_and_loss, carry_scales, train_epoch, with_integers
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


@pytest.mark.parametrize("loss", ["ce", "tet"])
def test_an_epochs_record_is_the_mean_of_each_steps_loss_before_its_update(loss):
    settings = recipe(label_smoothing=0.2, loss=loss, tet_lambda=0.1, tet_phi=0.5)
    net, images = Linear(), numbered(6)
    walker, loss_sum, correct = copy.deepcopy(net), 0.0, 0
    optimizer = make_optimizer("adamw", net, 0.0)
    record = train_epoch(net, optimizer, images, settings, 1)
    slow = torch.optim.AdamW(walker.parameters(), weight_decay=0.0, lr=1.0)
    for step, numbers in enumerate(net.seen):  # batches of 4 and 2
        o, labels = walker(images.images[numbers].float()), images.labels[numbers]
        logits, smooth = (o[0] + o[1]) / 2, 0.8 * F.one_hot(labels, 2) + 0.2 / 2
        ce, ce_0, ce_1 = (-(smooth * z.log_softmax(1)).sum(1) for z in (logits, *o))  # the mean over the steps, or each step
        losses = ce if loss == "ce" else 0.9 * (ce_0 + ce_1) / 2 + 0.1 * (o - 0.5).square().mean((0, 2))
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


def test_the_draws_of_an_epoch_depend_on_seed_and_epoch_alone():
    augment = Augment(crop_padding=1, flip=True, randaugment=3, erasing=0.5, noise=0.5)

    def seen(seed, epochs, global_seed):
        net = Linear()
        before = torch.manual_seed(global_seed).get_state()
        for epoch in epochs:
            net.seen.clear()
            train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(8, size=4), recipe(seed=seed, augment=augment), epoch)
        assert torch.equal(torch.get_rng_state(), before)
        return net.seen

    assert seen(0, [2], 1) == seen(0, [0, 1, 2], 2)
    assert seen(0, [2], 1) != seen(0, [1], 1)
    assert seen(0, [2], 1) != seen(1, [2], 1)


@pytest.mark.parametrize("batch", [3, 7])
def test_accuracy_and_loss_are_means_over_all_images(batch):
    images = numbered(7)
    logits = 1.5 * torch.arange(7.0)[:, None].expand(7, 2) / 10
    logits = logits + torch.tensor([0.0, 0.3])
    net = Linear().eval()
    net.fc.bias.data[1] = 0.2  # times 1.5
    accuracy, loss = accuracy_and_loss(net, images, batch, AS_THEY_ARE, FP32)
    assert accuracy == 3 / 7  # the images with odd numbers
    assert loss == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-5)


def test_a_loss_that_is_no_longer_finite_ends_the_epoch_with_its_number():
    net = Linear()
    net.fc.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the training loss is nan in epoch 3"):
        train_epoch(net, make_optimizer("adamw", net, 0.0), numbered(8), recipe(), 2)


SCHEDULES = [((), 2, [None] * 2), ((16,), 2, [16] * 2), ((1, 2), 5, [1, 1, 1, 2, 2]), ((1, 2, 3), 2, [2, 3])]


@pytest.mark.parametrize(("values", "epochs", "expected"), SCHEDULES)
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


RATES = [
    # six steps to lr_min = 0.1 from lr = 1; cosines of 0, 60, 120, 180 degrees are 1, 1/2, -1/2, -1
    (2, None, [0.5, 1.0, 1.0, 0.775, 0.325, 0.1]),
    (5, None, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]),
    # with a cooldown of a half it falls in three steps: the highest, the middle and the lowest
    (2, 0.5, [0.5, 1.0, 1.0, 1.0, 0.55, 0.1]),
    (0, 1.0, [1.0, 0.82, 0.64, 0.46, 0.28, 0.1]),
    (2, 1.0, [0.5, 1.0, 1.0, 0.7, 0.4, 0.1]),  # the warm-up comes first
    (0, 0.01, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),  # no step
]


@pytest.mark.parametrize(("n_warmup", "cooldown", "expected"), RATES)
def test_the_learning_rate_follows_the_table_worked_out_by_hand(n_warmup, cooldown, expected):
    assert [learning_rate(step, 6, n_warmup, 1.0, 0.1, cooldown) for step in range(6)] == pytest.approx(expected, abs=1e-5)


IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def kinds(net):
    return {type(module) for module in net.modules() if isinstance(module, LIF | ILIF)}


def test_integers_of_one_step_are_fired_until_the_context_ends():
    net = build_network("resnet18", 10, 1, 16, 4, 1 / 32, T=4, v_threshold=0.7)
    with with_integers(net, 5), with_steps(net, 1):
        assert kinds(net) == {ILIF} and net(IMAGES).shape == (1, 3, 10)
        assert {(lif.T, lif.levels, lif.v_threshold) for lif in net.modules() if isinstance(lif, ILIF)} == {(1, 5, 0.7)}
    with with_integers(net, 5):
        assert net(torch.stack([IMAGES] * 4)).shape == (4, 3, 10)  # frames of recordings
    assert kinds(net) == {LIF} and net(IMAGES).shape == (4, 3, 10)
    with with_integers(net, None):
        assert kinds(net) == {LIF} and net.T == 4


@pytest.mark.parametrize("lif", [{}, {"tau": 4.0}, {"decay_input": False}, {"v_threshold": 1.3}])
def test_a_current_for_half_of_the_integers_becomes_one_for_every_other_step(lif):
    layer = NormLIF(2, LIF(8, **lif)).eval()
    x = (torch.tensor([0.5, 1.0]) * 4 * layer.lif.v_threshold)[None, :, None, None].repeat(8, 1, 1, 1)  # of D = 8: 2 and 4
    assert ILIF(8, 8, v_threshold=layer.lif.v_threshold)(x)[0].flatten().tolist() == [2.0, 4.0]
    carry_scales(layer, 8)
    rates = layer(x).mean(0).flatten()
    assert rates[0] < rates[1] and 0.3 <= rates[1] <= 0.6


def test_the_first_epochs_train_integers_and_the_last_goes_on_with_scaled_norms():
    net = build_network("cifarnet", 10, 1, 16, 4, 1 / 16, T=4)
    images = PackedImages((IMAGES * 255).to(torch.uint8), torch.arange(3))
    how = recipe(
        Augment(0, False, 0, 0.0, 0.0),
        Normalise((0.5,), (0.5,)),
        epochs=2,
        batch_size=3,
        lr=1e-6,
        finish=Finish(levels=8, epochs=1),
    )
    optimizer = make_optimizer("adamw", net, 0.0, 0.9)
    seen = []
    for epoch in range(2):
        net.register_forward_hook(lambda net, args, o: seen.append((len(o), kinds(net))))
        train_epoch(net, optimizer, images, how, epoch)
    assert seen[0] == (1, {ILIF}) and seen[-1] == (4, {LIF})
    norms = [layer.norm for layer in net.modules() if isinstance(layer, NormLIF)]
    assert all(norm.weight.mean().item() == pytest.approx(0.35, abs=1e-3) for norm in norms)  # 0.7·τ·2 / D, once
