"""The networks that come with the package, by name, with the cards that describe them.

    classify("photo.jpg", "cifarnet.cifar10")    # [("cat", 0.93)]

Beside each file of genes lies an ONNX graph that reads its matrices out of it, so that ONNX Runtime needs no torch.

Shapes: B batch, C channels, H W space, T steps, P polarities.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gee_core.checkpoint import load_genes
from gee_core.data.augment import Normalise, resize_square
from gee_core.data.opening import opened
from gee_core.data.pixels import to_pixels
from gee_core.errors import InputError, as_input_error
from gee_core.export.model_card import ModelCard
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork
from gee_core.pretrained.files import pretrained_card, pretrained_file
from gee_core.storage.json_object import as_model
from gee_core.update_file import read_update

Card = TypeVar("Card", bound=ModelCard)

BATCH = 64  # images that the network sees at once


def load_pretrained(name: str, update: Path | str | None = None) -> SpikingNetwork:
    """A trained network that comes with the package, encoded, on the CPU and in evaluation mode.

    Its input is that of ``transforms(net.card)``. The mean of its output (T, B, K) over the steps are logits.

    Args:
        name: one of ``list_pretrained()``.
        update: a file of ``save_update`` for it, see ``load_genes``.

    Returns:
        The network. ``net.card`` is its ``PretrainedCard``, with the classes and the normalisation of the update, whose
        accuracy and energy it does not have. To train it further, call ``net.train()``.

    Raises:
        InputError: there is no such network, its file or the update is damaged, or the update is another network's.

    Examples:
        >>> net = gee_core.load_pretrained("cifarnet.digits")
        >>> net.card.class_names[:3]
        ('0', '1', '2')
    """
    net, card = load_genes(pretrained_file(name), update=update).eval(), pretrained_card(name)
    cast(Any, net).card = card if update is None else updated_card(card, Path(update))
    return cast(SpikingNetwork, net)


def updated_card(card: Card, update: Path) -> Card:
    """``card`` with what that in the file ``update`` has in place of it."""
    with as_input_error(f"{update}: its card does not fit that of the network"):
        return as_model(card.model_dump(mode="json") | read_update(update).card, type(card))


def classify(
    images: object, network: str | SpikingNetwork, value_range: tuple[float, float] | None = None
) -> list[tuple[str, float]]:
    """The most probable class of each image, and its probability.

    Args:
        images: whatever ``transforms`` takes: an image file, a PIL image, a list of these, or a tensor.
        network: one of ``list_pretrained()``, or a network with a ``card``, such as one of ``load_pretrained``.
        value_range: as for ``transforms``.

    Returns:
        A pair for each image.

    Raises:
        InputError: a file cannot be read, there is no such network, or ``transforms`` refuses the images.

    Examples:
        >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> [name for name, probability in gee_core.classify(images, "cifarnet.digits")]
        ['1', '1']
    """
    net = load_pretrained(network) if isinstance(network, str) else network
    card = cast(ModelCard, net.card)
    x, plain = transforms(card, value_range)(images), decode(net).eval()
    with torch.no_grad():
        p_BK = torch.cat([plain(part).mean(0).softmax(1) for part in x.split(BATCH, x.ndim - 4)])
    return [(card.class_names[k], p) for p, k in zip(*(best.tolist() for best in p_BK.max(1)), strict=True)]


def transforms(card: ModelCard, value_range: tuple[float, float] | None = None) -> Callable[[object], Tensor]:
    """What turns images into the input of a network with this ``card``: upright, square, of its size and its channels.

    Args:
        card: such as ``net.card`` of a shipped network.
        value_range: (least, greatest) value of a pixel in tensors that are not uint8, such as (0, 1) of torchvision's
            ``to_tensor``. They are rounded to 8 bits.

    Returns:
        A function of an image file, a PIL image, a list of these, or a tensor (B, C, H, W), with any height and width, of
        which the centre is cut; or of recordings (B, T, P, H, W), counts of any type. It returns float32 (B, C, S, S) or
        (T, B, P, S, S), S being ``card.image_size``. It raises InputError for a tensor of other channels or of an unknown
        range of values, and for a file that it cannot read.

    Examples:
        >>> net = gee_core.load_pretrained("cifarnet.digits")
        >>> net(gee_core.transforms(net.card)(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))).shape
        torch.Size([4, 1, 10])
    """
    normalise = Normalise(card.mean, card.std)

    def pixels(image: str | Path | Image.Image) -> np.ndarray:
        with nullcontext(image) if isinstance(image, Image.Image) else opened(Path(image)) as picture:
            return to_pixels(picture, card.in_channels, card.image_size)

    def transform(images: object) -> Tensor:
        if isinstance(images, str | Path | Image.Image):
            images = [images]
        if not isinstance(images, list | tuple):
            images = torch.as_tensor(images)
            ndim, kind = (4, "images (B, C, H, W)") if card.events is None else (5, "recordings (B, T, P, H, W)")
            if images.ndim != ndim or images.shape[-3] != card.in_channels:
                raise InputError(f"expected {kind} with {card.in_channels} channels, got shape {tuple(images.shape)}")
            if card.events is not None:
                if not (images == images.to(torch.uint8)).all():
                    problem = f"recordings of {images.dtype} with {images.min():.3g} to {images.max():.3g}"
                    raise InputError(problem, "give counts of events: whole numbers from 0 to 255")
                return resize_square(normalise(images), card.image_size)
            images = map(Image.fromarray, _uint8(images, value_range).permute(0, 2, 3, 1).squeeze(-1).numpy(force=True))
        return normalise(torch.from_numpy(np.stack([*map(pixels, images)])))

    return transform


def _uint8(images: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise InputError(f"value_range = {value_range}", "give the least and the greatest value, two finite numbers")
    known = value_range or ((0, 255) if images.dtype == torch.uint8 else None)
    if known is None or not (images.min() >= known[0] and images.max() <= known[1]):
        problem = f"value_range = {value_range}, and images of {images.dtype} with {images.min():.3g} to {images.max():.3g}"
        raise InputError(problem, "say the range of their kind, value_range=(0, 1) or (0, 255), or give uint8 or PIL images")
    return ((images - known[0]) * (255 / (known[1] - known[0]))).round().to(torch.uint8)
