"""Batch norm's running statistics, taken anew for a network that was trained with fewer steps or on smaller images."""

from collections.abc import Iterator

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from gee_core.data.images import PackedImages, StreamedImages
from gee_core.genome.quantise import quantised_call
from gee_core.model.layers import StepDropout
from gee_core.seeding import derive_seed, private_torch_rng, torch_generator
from gee_core.training.processes import bare
from gee_core.training.recipe import Recipe

DROPOUT = (nn.modules.dropout._DropoutNd, StepDropout, layer.Dropout)


def renew_statistics(net: nn.Module, images: PackedImages | StreamedImages, recipe: Recipe) -> None:
    """Take the running statistics of ``net`` anew, in place: means over whole batches, `recipe.cfg.norm_images` in all.

    The images are drawn with the recipe's seed, and seen as in evaluation: at full size, with all T steps, without augmentation
    and dropout. Each of several processes sees whole batches too, so that the statistics are those of one process.
    """
    generator = torch_generator(recipe.seed, "norm")
    drawn = images.subset(torch.randperm(len(images), generator=generator)[: recipe.cfg.norm_images])
    n_batches = max(1, len(drawn) // recipe.cfg.batch_size)
    network, bits = bare(net), recipe.bits_of(recipe.cfg.epochs - 1)

    def inputs() -> Iterator[Tensor]:
        for dropout in (module for module in network.modules() if isinstance(module, DROPOUT)):
            dropout.eval()  # here, because update_bn puts all modules into training mode before it asks for the first batch
        for _, (batch, _labels) in zip(range(n_batches), drawn.batches(recipe.cfg.batch_size), strict=False):
            yield recipe.normalise(batch)

    draws = private_torch_rng(derive_seed(recipe.seed, "norm"), recipe.compute.device)  # of layers of one's own
    with recipe.compute.autocast(), draws:
        update_bn(inputs(), network if bits is None else _Rounded(network, bits))


class _Rounded(nn.Module):
    def __init__(self, net: nn.Module, bits: int):
        super().__init__()
        self.net, self.bits = net, bits

    def forward(self, x: Tensor) -> Tensor:
        return quantised_call(self.net, self.bits, x)
