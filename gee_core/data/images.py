"""Labelled images, in memory or in files that are decoded on use, with the same methods.

Recordings of event cameras are images with T frames of P polarities.

Shapes: N images in all, B in a batch, C channels, H W rows and columns.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gee_core.config import Events
from gee_core.data.image_files import Form, decoded
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.seeding import torch_generator

CPU = torch.device("cpu")
STATISTICS_SAMPLE = 2_000
"""Number of images in files from which mean and standard deviation are computed."""
Batches = Iterator[tuple[Tensor, Tensor]]
"""Images (B, C, H, W), or recordings (B, T, P, H, W), and labels (B,)."""


@dataclass(frozen=True, eq=False)
class PackedImages:
    """Images in memory, on any device."""

    images: Tensor
    """uint8 (N, C, H, W), or (N, T, P, H, W)."""
    labels: Tensor
    """int64 (N,)."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_channels(self) -> int:
        """C, or P."""
        return self.images.shape[-3]

    @property
    def image_size(self) -> int:
        """H = W, in pixels."""
        return self.images.shape[-1]

    def subset(self, indices: Tensor) -> "PackedImages":
        """A copy of the images at ``indices``, in that order."""
        indices = indices.to(self.images.device)
        return PackedImages(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "PackedImages":
        """The same images on ``device``."""
        return PackedImages(self.images.to(device), self.labels.to(device))

    def batches(self, batch_size: int, generator: torch.Generator | None = None, first: int = 0, rank: Rank = ALONE) -> Batches:
        """Yield the share of ``rank`` in all batches but the first ``first``: shuffled by ``generator``, or in order."""
        for indices in index_batches(len(self), batch_size, generator, self.images.device, rank)[first:]:
            yield self.images[indices], self.labels[indices]


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Images in files below ``root``, decoded batch by batch in worker processes, never all in memory at once."""

    names: np.ndarray
    """The files, relative to ``root``, as ``as_array`` has them."""
    labels: Tensor
    """int64 (N,)."""
    root: Path
    image_size: int
    in_channels: int
    events: Events | None = None
    """How recordings become frames, None for images."""
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def files(self) -> list[str]:
        """The files, relative to ``root``."""
        return [os.fsdecode(name) for name in self.names]

    def subset(self, indices: Tensor) -> "StreamedImages":
        """The images at ``indices``, in that order."""
        indices = indices.cpu()
        return replace(self, names=self.names[indices.numpy()], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> "StreamedImages":
        """The same images, whose batches are moved to ``device``."""
        return replace(self, device=torch.device(device))

    def batches(self, batch_size: int, generator: torch.Generator | None = None, first: int = 0, rank: Rank = ALONE) -> Batches:
        """As of ``PackedImages``. An InputError if a file is missing or damaged."""
        batches = index_batches(len(self), batch_size, generator, rank=rank)[first:]
        form = Form(self.image_size, self.in_channels, self.events)
        pictures = decoded(form, self.names, self.root, batches, pin_memory=self.device.type == "cuda")
        for indices, images in zip(batches, pictures, strict=True):
            yield images.to(self.device, non_blocking=True), self.labels[indices].to(self.device, non_blocking=True)


def index_batches(
    n: int,
    batch_size: int,
    generator: torch.Generator | None,
    device: torch.device | str = "cpu",
    rank: Rank = ALONE,
) -> Sequence[Tensor]:
    """The share of ``rank`` in each batch of 0 … n-1, shuffled by ``generator`` if there is one. All processes draw alike."""
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    return [batch[rank.share(len(batch))] for batch in order.to(device).split(batch_size)] if n else ()


def stratified_indices(labels: Tensor, n: int, setting: str, *names: str) -> Tensor:
    """Ascending indices of ``n`` images: shares of ``labels`` (N,), one of each class or an InputError about the ``setting``.

    The draw is that of ``names``, by default of the ``setting``, in every run: ``base.seed`` changes no split.
    """
    labels = labels.cpu()
    counts = torch.bincount(labels)
    n_classes = int((counts > 0).sum())
    if n > len(labels):
        raise InputError(f"{setting}: {n} images are wanted, but there are only {len(labels)}", "ask for at most that many")
    if n < n_classes:
        raise InputError(f"{setting}: {n} of {len(labels)} images cannot show all {n_classes} classes", "ask for more")
    quotas = class_quotas(counts, n)
    order = torch.randperm(len(labels), generator=torch_generator(0, *names or (setting,)))
    by_class = order[labels[order].argsort(stable=True)]
    first_of_class = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - first_of_class[labels[by_class]]
    return by_class[rank < quotas[labels[by_class]]].sort().values


def class_quotas(counts: Tensor, n: int) -> Tensor:
    """How many of ``n`` images each class gets if there are ``counts`` (K,): largest remainder, at least one each."""
    total = int(counts.sum())
    exact = n * counts  # in units of 1/total image, so that no rounding decides
    quotas = exact // max(total, 1)
    largest_first = (exact % max(total, 1)).argsort(descending=True, stable=True)
    quotas[largest_first[: n - int(quotas.sum())]] += 1
    for starved in ((quotas == 0) & (counts > 0)).nonzero().flatten():
        surplus = torch.where(quotas > 1, quotas * total - exact, torch.iinfo(torch.int64).min)
        quotas[surplus.argmax()] -= 1
        quotas[starved] = 1
    return quotas


def mean_and_std(images: PackedImages | StreamedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (1 if the channel is constant) of each channel, of images in [0, 1].

    Exact in memory. Of images in files, a stratified part of ``STATISTICS_SAMPLE``.
    """
    if isinstance(images, StreamedImages) and len(images) > STATISTICS_SAMPLE:
        images = images.subset(stratified_indices(images.labels, STATISTICS_SAMPLE, "statistics"))
    histogram_CV = torch.zeros(images.in_channels, 256, dtype=torch.int64)
    for batch, _ in images.batches(256):
        histogram_CV += torch.stack([torch.bincount(c.flatten(), minlength=256).cpu() for c in batch.unbind(1)])
    share_CV = histogram_CV.double() / histogram_CV.sum(1, keepdim=True)
    values_V = torch.arange(256, dtype=torch.float64) / 255
    mean_C = share_CV @ values_V
    std_C = (share_CV * (values_V - mean_C[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean_C.tolist()), tuple(s if s > 1e-6 else 1.0 for s in std_C.tolist())


def one_colour(images_of: str) -> InputError:
    """The error of training images, those of ``images_of``, that are all of the same colour."""
    return InputError(
        f"{images_of}: all training images are of one and the same colour, so that nothing can be learned",
        "scale values of 16 bits to 0 … 65535, since the upper 8 bits are kept; put images that are drawn in transparency "
        "on a background, since it is ignored",
    )
