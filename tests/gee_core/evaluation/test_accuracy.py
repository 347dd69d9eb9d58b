import math

import pytest
import torch
from torch import nn

from gee_core.compute import Compute
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.training.loop import accuracy_and_loss

NORMALISE, COMPUTE = Normalise((0.0,), (1 / 255,)), Compute(torch.device("cpu"), torch.float32)
PIXELS = [0, 1, 2, 0, 1, 2, 0]
LABELS = [0, 1, 2, 1, 1, 0, 2]  # four of seven as the network says


class Says(nn.Module):
    """Two steps: class = brightness with logit 3 in the first, all classes alike in the second; the mean is 1.5."""

    def forward(self, x):
        said = 3 * nn.functional.one_hot(x.mean((1, 2, 3)).round().long(), 3).float()
        return torch.stack([said, torch.zeros_like(said)])


def images():
    pixels = torch.tensor(PIXELS, dtype=torch.uint8)[:, None, None, None].expand(7, 1, 2, 2).clone()
    return PackedImages(pixels, torch.tensor(LABELS))


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_accuracy_and_loss_are_means_over_images_whatever_the_batch(batch):
    accuracy, loss = accuracy_and_loss(Says(), images(), batch, NORMALISE, COMPUTE)
    right = -math.log(math.exp(1.5) / (math.exp(1.5) + 2))
    wrong = -math.log(1 / (math.exp(1.5) + 2))
    assert accuracy == pytest.approx(4 / 7)
    assert loss == pytest.approx((4 * right + 3 * wrong) / 7)
