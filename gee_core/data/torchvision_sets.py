"""The data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100, downloaded if they are not there."""

import contextlib
import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gee_core.data.images import PackedImages
from gee_core.errors import InputError, in_short

if TYPE_CHECKING:  # takes more than a second
    from torchvision.datasets import VisionDataset

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""torchvision's classes of the data sets that it reads."""
DAMAGE = (RuntimeError, OSError, ValueError, TypeError, AssertionError, EOFError, LookupError, ArithmeticError)
"""What torchvision raises when files are not those that it wrote."""


def torchvision_images(dataset: str, path: Path) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    """What the images of ``dataset`` in ``path`` come from, the names of their classes, the training and the test images.

    Raises:
        InputError: they are not there and cannot be downloaded, or are damaged.
    """
    kind = _torchvision_class(dataset)
    try:
        parts = [_train_images(dataset, path), kind(path, train=False)]
        names = tuple(parts[0].classes)
        train, test = (_packed(part, len(names)) for part in parts)
    except InputError:
        raise
    except DAMAGE as error:
        what = f"{path}: the files of {dataset} are damaged ({in_short(error, 120)})"
        raise InputError(what, "delete them, then prepare the images again") from None
    return f"torchvision {kind.__name__}", names, train, test


def _torchvision_class(dataset: str) -> "type[VisionDataset]":
    return getattr(importlib.import_module("torchvision.datasets"), TORCHVISION[dataset])


def _train_images(dataset: str, path: Path) -> "VisionDataset":
    """torchvision's training images in ``path``, downloaded if they are not there."""
    kind = _torchvision_class(dataset)
    try:
        return kind(path, train=True)
    except RuntimeError as error:
        if "not found" not in str(error):  # they are there, but cannot be read
            raise
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return kind(path, train=True, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        if dataset == "fashion_mnist":
            where, folders = path / "FashionMNIST/raw", ""
            archives = [where / name for name, _ in kind.resources]
        else:
            where, folders = path / kind.base_folder, f", or class folders of images in {path}/train and {path}/test"
            archives = [path / kind.filename]
        what, remedy = f"not found in {where}", f"put torchvision's files there{folders}, or go online"
        for half in filter(Path.is_file, archives):  # nothing was unpacked from it, so its checksum is wrong
            what, remedy = f"{half} is not complete", "delete it, then put the whole one there or go online"
        why = f"the download failed ({in_short(error, 120)})"
        raise InputError(f"prepare.dataset = {dataset}: {what}, and {why}", remedy) from None


def _packed(dataset: "VisionDataset", n_classes: int) -> PackedImages:
    images, labels = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets, dtype=torch.int64)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    if not len(labels) or images.shape[2] != images.shape[3] or not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"images {tuple(images.shape)} with labels of other than {n_classes} classes")
    return PackedImages(images.contiguous(), labels)
