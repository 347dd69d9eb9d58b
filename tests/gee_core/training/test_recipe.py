import pytest
import torch
from torch import nn

from gee_core.training.recipe import learning_rate


@pytest.mark.parametrize(
    ("n_warmup", "expected"),
    [
        # six steps to lr_min = 0.1 from lr = 1; cosines of 0, 60, 120, 180 degrees are 1, 1/2, -1/2, -1
        (2, [0.5, 1.0, 1.0, 0.775, 0.325, 0.1]),
        (5, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_follows_the_table_worked_out_by_hand(n_warmup, expected):
    rates = [learning_rate(step, 6, n_warmup, 1.0, 0.1) for step in range(6)]
    assert rates == pytest.approx(expected, abs=1e-5)


def test_the_cosine_equals_torchs():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=49, eta_min=0.01)
    for step in range(50):
        assert learning_rate(step, 50, 0, 0.3, 0.01) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("n_warmup", "cooldown", "expected"),
    [
        # six steps from lr = 1 to lr_min = 0.1; half of them are three: the highest, the middle and the lowest
        (0, 0.5, [1.0, 1.0, 1.0, 1.0, 0.55, 0.1]),
        (2, 0.5, [0.5, 1.0, 1.0, 1.0, 0.55, 0.1]),
        (0, 1.0, [1.0, 0.82, 0.64, 0.46, 0.28, 0.1]),
        (2, 1.0, [0.5, 1.0, 1.0, 0.7, 0.4, 0.1]),  # the warm-up comes first
        (0, 0.01, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),  # no step
    ],
)
def test_with_a_cooldown_the_learning_rate_stays_and_then_falls_linearly(n_warmup, cooldown, expected):
    rates = [learning_rate(step, 6, n_warmup, 1.0, 0.1, cooldown) for step in range(6)]
    assert rates == pytest.approx(expected)
