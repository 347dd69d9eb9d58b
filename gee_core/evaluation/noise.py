"""Images with Gaussian noise whose norm is a fixed part of the image's norm (Sec. 4.2).

Shapes: B batch, C channels, H W space.
"""

import torch
from torch import Tensor

from gee_core.data.augment import Normalise
from gee_core.rank import Place


def add_noise(x_BCHW: Tensor, r: float, generator: torch.Generator, place: Place | None = None) -> Tensor:
    """x' = x + r·||x||₂/||n||₂·n per image, n ~ N(0, I): the noise's norm is exactly r times the image's.

    ``generator`` is a CPU generator, so that every device sees the same noise. With ``place``, the images are part of a batch,
    and get the noise that they would get in the whole one.
    """
    place = place or Place(0, len(x_BCHW))
    n = place.of_all(torch.randn(place.of, *x_BCHW.shape[1:], generator=generator), len(x_BCHW)).to(x_BCHW.device)
    scale = x_BCHW.flatten(1).norm(dim=1) / n.flatten(1).norm(dim=1)
    return x_BCHW + r * scale[:, None, None, None] * n


def noisy_input(
    images_BCHW: Tensor,
    normalise: Normalise,
    r: float,
    domain: str,
    generator: torch.Generator,
    place: Place | None = None,
) -> Tensor:
    """uint8 images → normalised, noisy network input (B, C, H, W).

    Paper: does not say what the noise is added to. Here: ``domain`` ``normalised`` adds it to the normalised tensor, ``image``
    to the image itself, unclipped, because the result changes about twofold.
    """
    if domain == "image":
        return normalise(add_noise(images_BCHW.float(), r, generator, place))
    return add_noise(normalise(images_BCHW), r, generator, place)
