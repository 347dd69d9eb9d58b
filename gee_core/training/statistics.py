"""Numbers of a network that are taken from its images and not trained: a whitening stem, and batch norm's running statistics.

Source of the stem: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, Sec. 3.1. Here: with the stem's own kernel.

Shapes: B batch, D values of a patch (C·k_h·k_w), P patches, J filters, V directions.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.errors import InputError
from gee_core.genome.quantise import quantised_call
from gee_core.model.base import SpikingNetwork
from gee_core.model.layers import StepDropout
from gee_core.seeding import torch_generator

IMAGES = 2048
"""Number of images whose patches are taken."""

EPSILON = 5e-4
"""Is added to the variances, so that the smallest ones, which hold noise, are not blown up without bound."""

DROPOUT = (nn.modules.dropout._DropoutNd, StepDropout, layer.Dropout)


@torch.no_grad()
def whiten_stem(net: nn.Module, images: PackedImages | StreamedImages, normalise: Normalise, seed: int) -> None:
    """Give the stem of ``net``, in place, filters that whiten patches of ``images``, and train it no more.

    For each principal direction v of the patches, with the variance λ, there are two filters, v / √(λ + ε) and its negative,
    since a neuron fires at large currents alone. With too few filters, the directions of least variance are left out. Filters
    without a direction keep their weights. The patches are those of ``IMAGES`` whole images, drawn with ``seed``.

    Raises:
        InputError: the first convolution of ``net`` does not read the images.
    """
    convs = net.conv_chain() if isinstance(net, SpikingNetwork) else []
    if not convs or convs[0].in_channels != images.in_channels or convs[0].groups > 1:
        problem = "= true: the first convolution of the network does not read the images"
        raise InputError(problem, "set it to false", ("whiten",))
    stem = convs[0]
    order = torch.randperm(len(images), generator=torch_generator(seed, "whiten"))[:IMAGES]
    total = moments = torch.zeros((), dtype=torch.float64)
    n = 0
    for batch, _ in images.subset(order).batches(128):
        x = normalise(batch)
        x_BCHW = x.flatten(0, 1) if x.ndim == 5 else x  # frames (T, B, C, H, W)
        patches = F.unfold(x_BCHW, stem.kernel_size, stem.dilation, 0, stem.stride)  # (B, D, …), all within the images
        patches_PD = patches.transpose(1, 2).flatten(0, 1)
        total = total + patches_PD.sum(0, dtype=torch.float64).cpu()
        moments = moments + (patches_PD.mT @ patches_PD).double().cpu()
        n += len(patches_PD)
    mean_D = total / n
    variance_D, directions_DD = torch.linalg.eigh(moments / n - mean_D[:, None] * mean_D)
    n_directions = min(stem.out_channels // 2, len(mean_D))
    scaled_VD = (directions_DD / (variance_D.clamp_min(0) + EPSILON).sqrt()).mT.flip(0)[:n_directions]
    filters_JD = torch.cat([scaled_VD, -scaled_VD]).to(stem.weight)
    stem.weight[: len(filters_JD)] = filters_JD.unflatten(1, stem.weight.shape[1:])
    stem.weight.requires_grad_(False)


def renew_statistics(net: nn.Module, inputs: Iterable[Tensor], bits: int | None = None) -> None:
    """Take batch norm's running statistics anew, in place: the means over the batches of ``inputs``, without dropout.

    ``bits`` are those that matrices are rounded to while the network runs, None for no rounding.
    """

    def without_dropout() -> Iterator[Tensor]:
        for dropout in (module for module in net.modules() if isinstance(module, DROPOUT)):
            dropout.eval()  # here, because update_bn puts all modules into training mode before it asks for the first batch
        yield from inputs

    update_bn(without_dropout(), net if bits is None else _Rounded(net, bits))


class _Rounded(nn.Module):
    """A network that runs with its matrices rounded to ``bits``."""

    def __init__(self, net: nn.Module, bits: int):
        super().__init__()
        self.net, self.bits = net, bits

    def forward(self, x: Tensor) -> Tensor:
        return quantised_call(self.net, self.bits, x)
