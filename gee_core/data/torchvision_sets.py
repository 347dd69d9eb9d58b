"""The data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100, downloaded if they are not there."""

import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gee_core.data.images import PackedImages
from gee_core.data.published import OF_FASHION_MNIST, Archive, archives_of, in_words, not_there, them
from gee_core.errors import InputError, in_short
from gee_core.storage.atomic_files import REMEDIES

if TYPE_CHECKING:  # takes more than a second
    from torchvision.datasets import VisionDataset

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""torchvision's classes of the data sets that it reads."""
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
    with _explained(dataset, path):
        _provide(dataset, kind, path)
        if dataset == "fashion_mnist":
            names = tuple(kind.classes)
            parts = [_fashion_mnist(path, part, n, len(names)) for part, n in FASHION_MNIST.items()]
        else:
            both = [kind(path, train=train) for train in (True, False)]
            names = tuple(both[0].classes)
            parts = [(torch.as_tensor(part.data), torch.as_tensor(part.targets, dtype=torch.int64)) for part in both]
        train, test = (_packed(*part, len(names)) for part in parts)
    return f"torchvision {kind.__name__}", names, train, test


def provide(dataset: str, path: Path) -> None:
    """Unpack the archives of ``dataset`` in ``path`` whose files are not there; those that are not there are downloaded.

    Raises:
        InputError: that cannot be done, or a file without a whole archive is damaged.
    """
    with _explained(dataset, path):
        _provide(dataset, _torchvision_class(dataset), path)


@contextlib.contextmanager
def _explained(dataset: str, path: Path) -> Iterator[None]:
    """Inside, what torchvision raises becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            where, reason = error.filename or path, os.strerror(error.errno).lower()
            raise InputError(f"prepare.dataset = {dataset}: {where}: {reason}", REMEDIES[error.errno]) from None
        what = f"{path}: the files of {dataset} are damaged ({in_short(error, 120)})"
        raise InputError(what, "delete them, then prepare the images again") from None


def _torchvision_class(dataset: str) -> "type[VisionDataset]":
    kind = getattr(importlib.import_module("torchvision.datasets"), TORCHVISION[dataset])
    if dataset != "fashion_mnist":
        return kind
    # earlier versions of torchvision kept pickles in processed/, which it reads without a checksum, in place of raw/
    return type(kind.__name__, (kind,), {"_check_legacy_exist": lambda self: False})


def _provide(dataset: str, kind: "type[VisionDataset]", path: Path) -> None:
    utils = importlib.import_module("torchvision.datasets.utils")
    archives = archives_of(kind, path)
    for archive in archives:
        if not archive.unpacked() and archive.whole():
            _unpack(archive, utils.extract_archive)
    if all(archive.unpacked() for archive in archives):
        return
    if wrong := [file for archive in archives for file in archive.wrong()]:  # which a download would write over
        remedy = f"delete {them(wrong)}, then put whole copies there, or prepare the images again online"
        absent = [file for archive in archives for file in archive.absent()]
        raise InputError(f"prepare.dataset = {dataset}: {in_words(absent, wrong)}", remedy)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if dataset == "fashion_mnist":
                kind(path, train=True, download=True)
            else:  # the class would leave a missing batches.meta as it is
                utils.download_and_extract_archive(kind.url, path, filename=kind.filename, md5=kind.tgz_md5)
    except (RuntimeError, OSError, EOFError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise
        what, remedy = not_there(kind, path)
        cause = in_short(error, 1000).rpartition("got: ")[2][-120:]  # of several lines the last
        raise InputError(f"prepare.dataset = {dataset}: {what}, and the download failed ({cause})", remedy) from None


def _unpack(archive: Archive, extract: Callable[[str], object]) -> None:
    absent = archive.absent()
    try:
        extract(str(archive.path))
    except BaseException:
        for file in absent:  # one may be cut off now
            file.unlink(missing_ok=True)
        raise


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
