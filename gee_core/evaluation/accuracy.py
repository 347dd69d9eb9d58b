"""Accuracy and loss of a network on a set of images.

Shapes: T steps, B batch, K classes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gee_core.data.prepared import Meta
from gee_core.training.loop import Images, outputs


def predictions(
    net: nn.Module, images: Images, batch_size: int, meta: Meta, device: torch.device, precision: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits (N, K), labels (N,)) on the CPU of ``net``, which is in evaluation mode, over ``images`` in order."""
    pairs = [
        (o_TBK.mean(0).cpu(), labels.cpu())
        for o_TBK, labels in outputs(net, images, batch_size, meta.mean, meta.std, device, precision)
    ]
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits), torch.cat(labels)


def accuracy_and_loss(
    net: nn.Module, images: Images, batch_size: int, meta: Meta, device: torch.device, precision: torch.dtype
) -> tuple[float, float]:
    """(accuracy in [0, 1], cross-entropy) of ``net``, which is in evaluation mode."""
    logits, labels = predictions(net, images, batch_size, meta, device, precision)
    return (logits.argmax(1) == labels).float().mean().item(), F.cross_entropy(logits, labels).item()
