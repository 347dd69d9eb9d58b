"""The networks that come with the package, by name, with the cards that describe them.

    net = load_pretrained("cifarnet.cifar10")
    logits = net(transforms(net.card)(images)).mean(0)    # images (B, 3, H, W) with values 0 … 255

Beside each file of genes lies an ONNX graph that reads its matrices out of it, so that ONNX Runtime needs no torch.

Shapes: B batch, C channels, H W space, T steps, P polarities.
"""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from gee_core.checkpoint import load
from gee_core.data.augment import Normalise, resized
from gee_core.export.model_card import ModelCard
from gee_core.model.base import SpikingNetwork
from gee_core.pretrained.files import pretrained_card, pretrained_file


def load_pretrained(name: str) -> SpikingNetwork:
    """A trained network that comes with the package, encoded, on the CPU and in evaluation mode.

    Its input is that of ``transforms(net.card)``. The mean of its output (T, B, K) over the steps are logits.

    Args:
        name: one of ``list_pretrained()``.

    Returns:
        The network. ``net.card`` is its ``PretrainedCard``. To train it further, call ``net.train()``.

    Raises:
        InputError: there is no such network, or its file is damaged.

    Examples:
        >>> net = gee_core.load_pretrained("cifarnet.digits")
        >>> net.card.class_names[:3]
        ('0', '1', '2')
    """
    net = load(pretrained_file(name)).eval()
    cast(Any, net).card = pretrained_card(name)
    return net


def transforms(card: ModelCard) -> Callable[[Tensor], Tensor]:
    """What turns images into the input of a network with this ``card``.

    Args:
        card: such as ``net.card`` of a shipped network.

    Returns:
        A function of images (B, C, H, W) with values 0 … 255 and any height and width, of which the centre is cut, or of
        recordings (B, T, P, H, W) of counts. It returns float32 (B, C, S, S) or (T, B, P, S, S), S being ``card.image_size``.
        It raises ValueError for another number of channels.

    Examples:
        >>> net = gee_core.load_pretrained("cifarnet.digits")
        >>> net(gee_core.transforms(net.card)(torch.zeros(1, 1, 28, 28))).shape
        torch.Size([4, 1, 10])
    """

    def transform(images: Tensor) -> Tensor:
        if images.ndim != (4 if card.events is None else 5) or images.shape[-3] != card.in_channels:
            kind = "images (B, C, H, W)" if card.events is None else "recordings (B, T, P, H, W)"
            raise ValueError(f"expected {kind} with {card.in_channels} channels, got shape {tuple(images.shape)}")
        height, width = images.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[..., top : top + side, left : left + side]
        return resized(Normalise(card.mean, card.std)(square), card.image_size)

    return transform
