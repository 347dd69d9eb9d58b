"""The data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100, downloaded if they are not there."""

import contextlib
import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gee_core.data.images import PackedImages
from gee_core.errors import InputError, in_short

if TYPE_CHECKING:  # takes more than a second
    from torchvision.datasets import VisionDataset

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""torchvision's classes of the data sets that it reads."""
OF_FASHION_MNIST = "FashionMNIST/raw"
"""Where its files are, below the folder of images."""
FASHION_MNIST = {"train": 60_000, "t10k": 10_000}
"""The number of images in each part of Fashion-MNIST."""
DAMAGE = (RuntimeError, OSError, ValueError, TypeError, AssertionError, EOFError, LookupError, ArithmeticError)
"""What torchvision raises when files are not those that it wrote."""


def torchvision_images(dataset: str, path: Path) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    """What the images of ``dataset`` in ``path`` come from, the names of their classes, the training and the test images.

    Raises:
        InputError: they are not there and cannot be downloaded, or are damaged.
    """
    kind = _torchvision_class(dataset)
    try:
        if dataset == "fashion_mnist":
            ends = ("images-idx3-ubyte", "labels-idx1-ubyte")
            if not all((path / OF_FASHION_MNIST / f"{part}-{end}").is_file() for part in FASHION_MNIST for end in ends):
                _train_images(dataset, path)
            names = tuple(kind.classes)
            parts = [_fashion_mnist(path, part, n, len(names)) for part, n in FASHION_MNIST.items()]
        else:
            whole = _train_images(dataset, path)
            names = tuple(whole.classes)
            both = (whole, kind(path, train=False))
            parts = [(torch.as_tensor(part.data), torch.as_tensor(part.targets, dtype=torch.int64)) for part in both]
        train, test = (_packed(*part, len(names)) for part in parts)
    except InputError:
        raise
    except DAMAGE as error:
        what = f"{path}: the files of {dataset} are damaged ({in_short(error, 120)})"
        raise InputError(what, "delete them, then prepare the images again") from None
    return f"torchvision {kind.__name__}", names, train, test


def _torchvision_class(dataset: str) -> "type[VisionDataset]":
    kind = getattr(importlib.import_module("torchvision.datasets"), TORCHVISION[dataset])
    if dataset != "fashion_mnist":
        return kind
    # earlier versions of torchvision kept pickles in processed/, which it reads without a checksum, in place of raw/
    return type(kind.__name__, (kind,), {"_check_legacy_exist": lambda self: False})


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
            where, folders = path / OF_FASHION_MNIST, ""
            archives = [where / name for name, _ in kind.resources]
        else:
            where, folders = path / kind.base_folder, f", or class folders of images in {path}/train and {path}/test"
            archives = [path / kind.filename]
        what, remedy = f"not found in {where}", f"put torchvision's files there{folders}, or go online"
        for half in filter(Path.is_file, archives):  # nothing was unpacked from it, so its checksum is wrong
            what, remedy = f"{half} is not complete", "delete it, then put the whole one there or go online"
        why = f"the download failed ({in_short(error, 120)})"
        raise InputError(f"prepare.dataset = {dataset}: {what}, and {why}", remedy) from None


def _fashion_mnist(path: Path, part: str, n: int, n_classes: int) -> tuple[Tensor, Tensor]:
    """The images and labels of a ``part`` of Fashion-MNIST, of which it has to have ``n``, as many of each class."""
    mnist = importlib.import_module("torchvision.datasets.mnist")
    images = _read(path, f"{part}-images-idx3-ubyte", mnist.read_image_file)
    if tuple(images.shape) != (n, 28, 28):
        raise _damaged(path, f"{part}-images-idx3-ubyte", f"sizes {tuple(images.shape)}, not {(n, 28, 28)}")
    labels = _read(path, f"{part}-labels-idx1-ubyte", mnist.read_label_file)
    if torch.bincount(labels, minlength=n_classes).tolist() != [n // n_classes] * n_classes:
        raise _damaged(path, f"{part}-labels-idx1-ubyte", f"not {n // n_classes:,} labels of each class")
    return images, labels


def _read(path: Path, name: str, read: Callable[[str], Tensor]) -> Tensor:
    try:
        return read(str(path / OF_FASHION_MNIST / name))
    except DAMAGE as error:
        raise _damaged(path, name, in_short(error, 120)) from None


def _damaged(path: Path, name: str, reason: str) -> InputError:
    what = f"{path}: the files of fashion_mnist are damaged ({OF_FASHION_MNIST}/{name}: {reason})"
    return InputError(what, "delete that file, or put the published one there, then prepare the images again")


def _packed(images: Tensor, labels: Tensor, n_classes: int) -> PackedImages:
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    if not len(labels) or images.shape[2] != images.shape[3] or not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"images {tuple(images.shape)} with labels of other than {n_classes} classes")
    return PackedImages(images.contiguous(), labels)
