"""The data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100, downloaded if they are not there."""

import contextlib
import importlib
import io
import os
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gee_core.config.prepare import DATASETS
from gee_core.data.images import PackedImages
from gee_core.errors import InputError, in_short
from gee_core.storage.atomic_files import REMEDIES

if TYPE_CHECKING:  # takes more than a second
    from torchvision.datasets import VisionDataset

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""torchvision's classes of the data sets that it reads."""
FAILURES = (RuntimeError, OSError, ValueError, TypeError, AssertionError, EOFError, LookupError, ArithmeticError, HTTPException)
"""What torchvision raises for files that are damaged or absent, and for downloads that fail."""


def torchvision_images(dataset: str, path: Path) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    """What the images of ``dataset`` in ``path`` come from, the names of their classes, the training and the test images."""
    train, test = (_opened(dataset, path, train) for train in (True, False))
    return f"torchvision {TORCHVISION[dataset]}", tuple(train.classes), _packed(train), _packed(test)


def provide(dataset: str, path: Path) -> None:
    """Download the files of ``dataset`` to ``path``, or unpack the archives there, unless they are there."""
    _opened(dataset, path, train=False)


def _opened(dataset: str, path: Path, train: bool) -> "VisionDataset":
    """torchvision's data set, downloaded if it is absent. InputError if it is damaged or cannot be downloaded."""
    kind = getattr(importlib.import_module("torchvision.datasets"), TORCHVISION[dataset])
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            images = kind(path, train=train, download=True)
        if len(images.data) != len(images.targets) or max(map(int, images.targets)) >= len(images.classes):
            raise ValueError("its labels are not those of its images")
        return images
    except FAILURES as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            where, reason = error.filename or path, os.strerror(error.errno).lower()
            raise InputError(f"{{argument}} = {dataset}: {where}: {reason}", REMEDIES[error.errno], "dataset") from None
        folder, resources = path / str(DATASETS[dataset].folder), getattr(kind, "resources", None)
        names = ", ".join(name for name, _ in resources) if resources else kind.filename
        into = folder if resources else path
        raise InputError(
            f"{{argument}} = {dataset}: absent or damaged in {folder}, and cannot be downloaded ({in_short(error, 120)})",
            f"delete what is there, then put torchvision's {names} into {into}, or go online",
            "dataset",
        ) from None


def _packed(images: "VisionDataset") -> PackedImages:
    pixels = torch.as_tensor(images.data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return PackedImages(pixels.contiguous(), torch.as_tensor(images.targets, dtype=torch.int64))
