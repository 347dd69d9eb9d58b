"""Robustness to Gaussian noise whose norm is a fixed part of the image's (Sec. 4.2).

Shapes: B batch, C channels, H W space.
"""

import torch
from torch import Tensor


def add_noise(x_BCHW: Tensor, r: float, generator: torch.Generator) -> Tensor:
    """x' = x + r·||x||₂/||n||₂·n per image, n ~ N(0, I): the noise's norm is exactly r times the image's.

    ``generator`` is a CPU generator, so that every device sees the same noise. The result goes to all T steps alike.
    """
    n = torch.randn(x_BCHW.shape, generator=generator).to(x_BCHW.device)
    scale = x_BCHW.flatten(1).norm(dim=1) / n.flatten(1).norm(dim=1)
    return x_BCHW + r * scale[:, None, None, None] * n


def noisy_input(images: Tensor, mean, std, r: float, domain: str, generator: torch.Generator) -> Tensor:
    """uint8 images (B, C, H, W) → normalised, noisy float32 input in channels-last layout.

    ``domain``: ``normalised`` adds the noise to the normalised tensor, ``image`` to the image in [0, 1], unclipped.

    Paper: does not say which. Here: both, because the result changes about twofold.
    """
    image = images.float() / 255
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (mean, std))
    noisy_image = domain == "image"
    x = (add_noise(image, r, generator) - mean) / std if noisy_image else add_noise((image - mean) / std, r, generator)
    return x.contiguous(memory_format=torch.channels_last)
