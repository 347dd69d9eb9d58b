"""Where images come from: scikit-learn's digits, torchvision's sets, folders of image files or recordings."""

import contextlib
import hashlib
import importlib
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gee_core.config import PrepareConfig
from gee_core.config.prepare import DATASETS
from gee_core.data.folders import endings_of, is_in_files, list_images
from gee_core.data.image_files import Form, Result, as_array, common_form, decode_image, each_file
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.prepared import Source
from gee_core.data.splits import split, split_files
from gee_core.errors import InputError, in_short
from gee_core.storage.atomic_files import sha256

Progress = Callable[[int, int], None]
"""Called with the number of images decoded so far and the number of all images."""

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""torchvision's classes of the data sets that it reads."""

IN_FOLDERS, OF_EVENTS = "a folder of images", "a folder of recordings"
"""Where packed images of class folders come from: without the path, so that a moved folder is prepared into the same files."""


def load_source(cfg: PrepareConfig, on_progress: Progress = lambda done, total: None) -> Source:
    """The images that ``cfg`` names. InputError where they are missing, damaged, or do not fit ``cfg``."""
    check_streamable(cfg)
    if is_in_files(cfg):
        return _from_files(cfg, on_progress)
    source, class_names, train, test = _digits() if cfg.dataset == "digits" else torchvision_images(cfg.dataset, Path(cfg.path))
    parts = split(cfg, class_names, train.labels, test=None if test is None else test.labels)
    train, test = train.subset(parts.train), (train if test is None else test).subset(parts.test)
    return Source(source, class_names, _resized(train, cfg.image_size), _resized(test, cfg.image_size), parts.holdout)


def check_streamable(cfg: PrepareConfig) -> None:
    """Raise an InputError if ``cfg`` asks for a stream, and there are no files of images."""
    if cfg.stream and not is_in_files(cfg):
        raise InputError(f"prepare.stream = true: {cfg.path} has no class folders in train/", "set it to false")


def raw_files(cfg: PrepareConfig) -> list[Path]:
    """The files that `load_source` reads, and all of torchvision's in their folder, which may not be there yet."""
    root = Path(cfg.path)
    if is_in_files(cfg):
        return [root / file for file in list_images(root, endings_of(cfg.events)).all_files]
    return sorted(Path(root, cfg.known.folder).glob("*")) if cfg.known and cfg.known.folder else []


def _digits() -> tuple[str, tuple[str, ...], PackedImages, None]:
    """The digits, none of which are test images yet."""
    try:
        from sklearn.datasets import load_digits  # takes a second
    except ImportError:
        raise InputError("prepare.dataset = digits: needs scikit-learn", "install it with `pip install scikit-learn`") from None
    values, labels = (torch.from_numpy(values) for values in load_digits(return_X_y=True))  # values 0 … 16
    pixels = (values.reshape(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    return "scikit-learn digits", tuple("0123456789"), PackedImages(pixels, labels.long()), None


def torchvision_images(dataset: str, path: Path) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    """What the images of ``dataset`` in ``path`` come from, the names of their classes, the training and the test images."""
    (classes, train), (_, test) = (_open(dataset, path, train) for train in (True, False))
    return f"torchvision {TORCHVISION[dataset]}", classes, train, test


def provide(dataset: str, path: Path) -> None:
    """Download the files of ``dataset`` to ``path``, or unpack the archives there, unless they are there."""
    _open(dataset, path, train=False)


def _open(dataset: str, path: Path, train: bool) -> tuple[tuple[str, ...], PackedImages]:
    """Classes and images of torchvision, downloaded if absent. InputError if damaged or impossible to download."""
    kind = getattr(importlib.import_module("torchvision.datasets"), TORCHVISION[dataset])
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            images = kind(path, train=train, download=True)
        if len(images.data) != len(images.targets) or max(map(int, images.targets)) >= len(images.classes):
            raise ValueError("its labels are not those of its images")
        pixels = torch.as_tensor(images.data)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        return tuple(images.classes), PackedImages(pixels.contiguous(), torch.as_tensor(images.targets, dtype=torch.int64))
    except Exception as error:  # of ten kinds, for damaged files and downloads that fail
        folder, resources = path / str(DATASETS[dataset].folder), getattr(kind, "resources", None)
        names = ", ".join(name for name, _ in resources) if resources else kind.filename
        into = folder if resources else path
        raise InputError(
            f"prepare.dataset = {dataset}: absent or damaged in {folder}, and cannot be downloaded ({in_short(error, 120)})",
            f"delete what is there, then put torchvision's {names} into {into}, or go online",
        ) from None


def _resized(images: PackedImages, size: int | None) -> PackedImages:
    if size is None or size == images.image_size:
        return images
    from torchvision.transforms.v2.functional import resize

    pieces = [resize(piece, [size, size], antialias=True) for piece in images.images.split(4096)]  # they are square
    return PackedImages(torch.cat(pieces), images.labels)


def _from_files(cfg: PrepareConfig, on_progress: Progress) -> Source:
    root = Path(cfg.path)
    listing = list_images(root, endings_of(cfg.events))
    n_classes = cfg.known.n_classes if cfg.known else len(listing.class_names)
    if len(listing.class_names) != n_classes:
        raise InputError(
            f"{root / 'train'}: holds {len(listing.class_names)} class folders, {cfg.dataset} has {n_classes}",
            f"set prepare.dataset to {'folder' if cfg.events is None else 'events'}",
        )
    train, train_labels, test, test_labels, holdout = split_files(listing, cfg)
    n, files = len(train), train + test
    form = common_form(root, files, cfg.image_size, cfg.events)
    rest = holdout, form.events, "val" in listing.splits, tuple(listing.unread() if cfg.dataset == "folder" else ())
    if cfg.stream:
        digests = list(_each(partial(_digest, form), root, files, on_progress))
        contents = tuple(hashlib.sha256("".join(part).encode()).hexdigest() for part in (digests[:n], digests[n:]))
        streamed = StreamedImages(as_array(train), train_labels, root, form.image_size, form.in_channels, form.events)
        streamed_test = replace(streamed, names=as_array(test), labels=test_labels)
        return Source(cfg.path, listing.class_names, streamed, streamed_test, *rest, contents)
    _check_fits(len(files), form)
    images = np.empty((len(files), *form.shape), np.uint8)
    for index, image in enumerate(_each(partial(decode_image, form=form), root, files, on_progress)):
        images[index] = image
    packed, packed_test = (
        PackedImages(torch.from_numpy(part), of) for part, of in ((images[:n], train_labels), (images[n:], test_labels))
    )
    where = IN_FOLDERS if form.events is None else OF_EVENTS
    return Source(where, listing.class_names, packed, packed_test, *rest)


def _digest(form: Form, path: Path) -> str:
    """The SHA-256 of a file, which is decoded to find damage."""
    decode_image(path, form)
    return sha256(path)


def _each(look: Callable[[Path], Result], root: Path, files: Sequence[str], on_progress: Progress) -> Iterator[Result]:
    """``look`` of each of the ``files``. Raises the first InputError."""
    for done, (_, seen) in enumerate(each_file(look, root, files), 1):
        if isinstance(seen, InputError):
            raise seen
        yield seen
        on_progress(done, len(files))


def _check_fits(n: int, form: Form) -> None:
    needed = n * math.prod(form.shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * memory:
        raise InputError(
            f"{n} images of {form.image_size} pixels take {needed / 1e9:.0f} GB packed, this machine has {memory / 1e9:.0f}",
            "set prepare.stream to true, or a smaller image_size",
        )
