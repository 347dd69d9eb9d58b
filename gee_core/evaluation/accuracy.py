"""Accuracy and loss of a network on a set of images.

Shapes: T steps, B batch, K classes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gee_core.data.augment import Normalise
from gee_core.hardware import Compute
from gee_core.training.loop import Images, outputs
from gee_core.training.processes import summed


def accuracy_and_loss(
    net: nn.Module, images: Images, batch_size: int, normalise: Normalise, compute: Compute
) -> tuple[float, float]:
    """(accuracy in [0, 1], cross-entropy) of ``net``, which is in evaluation mode, on ``images``, by all processes."""
    sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
    for o_TBK, labels_B in outputs(net, images, batch_size, normalise, compute):
        logits_BK = o_TBK.mean(0)
        correct = (logits_BK.argmax(1) == labels_B).sum()
        sums += torch.stack([correct, F.cross_entropy(logits_BK, labels_B, reduction="sum")])
    accuracy, loss = (summed(sums, compute.rank) / len(images)).tolist()
    return accuracy, loss
