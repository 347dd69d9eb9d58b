"""Augmentation and normalisation of whole batches, on the device of the images.

Recordings (B, T, P, H, W) are augmented as images with T·P channels, all frames alike. The network gets (T, B, P, H, W).

Shapes: B batch, C channels, H W rows and columns; K tries; T frames of P polarities.

All draws come from a CPU generator and then move to the device, so CPU and CUDA see the same augmentation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gee_core.data.recordings import area_sums, summed_steps
from gee_core.rank import Place
from gee_core.seeding import derive_seed, private_torch_rng

GROUP = 8
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = (0.3, 3.3)
ERASING_TRIES = 10


@dataclass(frozen=True)
class Augment:
    """How training images are augmented. Zeros and False switch an operation off."""

    crop_padding: int
    """Width in pixels of the black border that is added before the image is cropped to its size at a random place."""
    flip: bool
    """Mirror half of the images, left to right."""
    randaugment: int
    """Magnitude of RandAugment's two operations, up to 30."""
    erasing: float
    """Probability that a rectangle of the image is erased."""
    noise: float = 0.0
    """Greatest norm of the added noise, as a fraction of the norm of the image. Each image draws its norm from 0 on."""

    def __call__(self, images_BCHW: Tensor, generator: torch.Generator, place: Place | None = None) -> Tensor:
        """Crop, flip and RandAugment of uint8 images. Erasing and noise follow normalisation, in ``to_input``."""
        place = place or Place(0, len(images_BCHW))
        if self.crop_padding or self.flip:
            n, padding = len(images_BCHW), self.crop_padding
            top_B, left_B = place.of_all(torch.randint(0, 2 * padding + 1, (2, place.of), generator=generator), n, dim=1)
            mirrored_B = place.of_all(torch.rand(place.of, generator=generator), n) < (0.5 if self.flip else 0.0)
            shape, images_BCHW = images_BCHW.shape, images_BCHW.flatten(1, -3)
            images_BCHW = crop_and_flip(images_BCHW, padding, top_B, left_B, mirrored_B).reshape(shape)
        if self.randaugment:
            images_BCHW = rand_augment(images_BCHW, self.randaugment, generator, place)
        return images_BCHW


@dataclass(frozen=True)
class Normalise:
    """Turns images with values 0 … 255 into network input: (x / 255 - mean) / std, in float32 and channels-last layout."""

    mean: tuple[float, ...]
    """Of each channel, of images in [0, 1]."""
    std: tuple[float, ...]

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Network input (B, C, H, W) of images (B, C, H, W), and (T, B, P, H, W) of recordings (B, T, P, H, W)."""
        if images_BCHW.ndim == 5:
            B, T = images_BCHW.shape[:2]
            return self(images_BCHW.transpose(0, 1).flatten(0, 1)).unflatten(0, (T, B))
        scale_C, shift_C = (
            torch.tensor(values).view(-1, 1, 1).to(images_BCHW.device, non_blocking=True)
            for values in zip(*((1 / (255 * s), -m / s) for m, s in zip(self.mean, self.std, strict=True)), strict=True)
        )
        return images_BCHW.to(torch.float32, memory_format=torch.channels_last, copy=True).mul_(scale_C).add_(shift_C)


def to_input(
    images_BCHW: Tensor,
    normalise: Normalise,
    augment: Augment | None = None,
    generator: torch.Generator | None = None,
    size: int | None = None,
    place: Place | None = None,
    steps: int | None = None,
) -> Tensor:
    """uint8 images → network input, float32 (B, C, H, W), augmented with draws from a CPU ``generator``, resized to ``size``.

    With ``place``, the images are a part of a batch, and get the draws that they would get in the whole batch. With ``steps``,
    recordings get that many frames, each a sum of neighbours.
    """
    if augment is None:
        return resize_square(normalise(images_BCHW), size)
    if generator is None:
        raise ValueError("augment needs a generator")
    x_BCHW = normalise(augment(images_BCHW, generator, place))
    if x_BCHW.ndim == 5 and steps is not None:
        x_BCHW = summed_steps(x_BCHW, steps)
    x_BCHW = resize_square(x_BCHW, size)
    if augment.erasing:
        x_BCHW.masked_fill_(erased_pixels(x_BCHW, augment.erasing, generator, place), 0.0)
    if augment.noise:
        n = len(x_BCHW)
        place = place or Place(0, n)
        r_B = augment.noise * place.of_all(torch.rand(place.of, generator=generator), n).to(x_BCHW.device, non_blocking=True)
        x_BCHW = add_noise(x_BCHW, r_B, generator, place).contiguous(memory_format=torch.channels_last)
    return x_BCHW


def resize_square(x_BCHW: Tensor, size: int | None) -> Tensor:
    """``x_BCHW`` with H = W = ``size``, by antialiased bilinear interpolation. Frames are resized by sums of areas.

    A ``size`` of None leaves ``x_BCHW`` as it is.
    """
    if size is None or size == x_BCHW.shape[-1]:
        return x_BCHW
    if x_BCHW.ndim == 5:
        return area_sums(x_BCHW, size)
    return F.interpolate(x_BCHW, (size, size), mode="bilinear", antialias=True)


def crop_and_flip(images_BCHW: Tensor, padding: int, top_B: Tensor, left_B: Tensor, mirrored_B: Tensor) -> Tensor:
    """Pad each image with zeros, crop it to its old size at (top, left), and flip those that are ``mirrored``."""
    (H, W), device = images_BCHW.shape[2:], images_BCHW.device
    top_B, left_B, mirrored_B = (draws.to(device, non_blocking=True) for draws in (top_B, left_B, mirrored_B))
    rows_BH, columns_W = top_B[:, None] + torch.arange(H, device=device), torch.arange(W, device=device)
    columns_BW = left_B[:, None] + torch.where(mirrored_B[:, None], columns_W.flip(0), columns_W)
    padded_BCHW = F.pad(images_BCHW, (padding,) * 4)
    batch_B = torch.arange(len(images_BCHW), device=device)
    cropped_BHWC = padded_BCHW[batch_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    return cropped_BHWC.permute(0, 3, 1, 2)


def rand_augment(images_BCHW: Tensor, magnitude: int, generator: torch.Generator, place: Place | None = None) -> Tensor:
    """RandAugment (Cubuk et al. 2020), two operations of ``magnitude`` of 30, on uint8 images.

    Paper: per image. Here: per group of 8, because a batch of 128 then takes 32 operations on the device, not 256, and
    which images share a group is shuffled anew every epoch.
    """
    from torchvision.transforms.v2 import RandAugment  # takes a second

    transform = RandAugment(num_ops=2, magnitude=magnitude)
    seed = int(torch.randint(2**62, (), generator=generator))
    group_B = (torch.arange(len(images_BCHW)) + (place.first if place else 0)) // GROUP
    groups, sizes = group_B.unique_consecutive(return_counts=True)
    parts = []
    for group, images in zip(groups.tolist(), images_BCHW.split(sizes.tolist()), strict=True):
        # torchvision draws from the global generator only
        with private_torch_rng(derive_seed(seed, group)), WithoutWaiting():
            parts.append(transform(images))
    return torch.cat(parts)


class WithoutWaiting(TorchFunctionMode):
    """Context in which ``torch.tensor(numbers, device=…)`` does not wait for the device, as torchvision's transforms would."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[object, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """``func(*args, **kwargs)``. Numbers become a tensor of the host first."""
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if func is torch.tensor else None
        result = func(*args, **kwargs)
        return result if device is None else result.to(device, non_blocking=True)


def erased_pixels(x_BCHW: Tensor, probability: float, generator: torch.Generator, place: Place | None = None) -> Tensor:
    """Mask (B, 1, H, W), on the device of ``x_BCHW``, of a random rectangle in ``probability`` of the images.

    Random erasing (Zhong et al. 2020): area uniform in 2-33 % of the image, aspect log-uniform in 0.3-3.3, drawn up to
    ten times until the rectangle fits.
    """
    n, _, H, W = x_BCHW.shape[-4:]
    place = place or Place(0, n)
    draws_5KB = place.of_all(torch.rand(5, ERASING_TRIES, place.of, generator=generator), n, dim=2)
    area_KB = H * W * (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draws_5KB[0])
    low, high = map(math.log, ERASED_ASPECT)
    aspect_KB = (low + (high - low) * draws_5KB[1]).exp()
    height_KB = (area_KB * aspect_KB).sqrt().round().clamp(min=1)
    width_KB = (area_KB / aspect_KB).sqrt().round().clamp(min=1)
    fits_KB = (height_KB < H) & (width_KB < W)
    first_B = fits_KB.int().argmax(0)
    height_B, width_B = (size_KB.gather(0, first_B[None])[0] for size_KB in (height_KB, width_KB))
    chosen_B = (draws_5KB[4, 0] < probability) & fits_KB.any(0)
    top_B = (draws_5KB[2, 0] * (H - height_B + 1)).floor()
    left_B = (draws_5KB[3, 0] * (W - width_B + 1)).floor()
    drawn = (top_B, height_B, left_B, width_B, chosen_B)
    top_B, height_B, left_B, width_B, chosen_B = (draws.to(x_BCHW.device, non_blocking=True) for draws in drawn)
    rows_BH = _between(torch.arange(H, device=x_BCHW.device), top_B, height_B) & chosen_B[:, None]
    columns_BW = _between(torch.arange(W, device=x_BCHW.device), left_B, width_B)
    return (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]


def add_noise(x_BCHW: Tensor, r: float | Tensor, generator: torch.Generator, place: Place | None = None) -> Tensor:
    """x' = x + r·||x||₂/||n||₂·n per image, n ~ N(0, I): the noise's norm is exactly r times the image's (Sec. 4.2).

    ``r`` is a number or has a value for each image, (B,). ``generator`` is a CPU generator, so that every device sees the same
    noise. With ``place``, the images are a part of a batch, and get the noise that they would get in the whole batch.
    """
    place = place or Place(0, len(x_BCHW))
    n = place.of_all(torch.randn(place.of, *x_BCHW.shape[1:], generator=generator), len(x_BCHW)).to(x_BCHW.device)
    scale = x_BCHW.flatten(1).norm(dim=1) / n.flatten(1).norm(dim=1)
    return x_BCHW + (r * scale)[:, None, None, None] * n


def _between(positions: Tensor, start_B: Tensor, length_B: Tensor) -> Tensor:
    return (positions >= start_B[:, None]) & (positions < (start_B + length_B)[:, None])
