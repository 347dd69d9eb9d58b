"""Where images come from, which are scikit-learn's, torchvision's, or files in folders, and what each of them is used for."""

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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gee_core.config import PrepareConfig
from gee_core.config.prepare import DATASETS
from gee_core.data.folders import Listing, endings_of, is_in_files, list_images
from gee_core.data.image_files import Form, Result, as_array, common_form, decode_image, each_file
from gee_core.data.images import PackedImages, StreamedImages, stratified_indices
from gee_core.data.prepared import Source
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
    if is_in_files(cfg):
        return _from_files(cfg, on_progress)
    test: PackedImages | None = None
    if cfg.dataset == "digits":
        source, class_names, train = "scikit-learn digits", tuple("0123456789"), _digits()
    else:
        source = f"torchvision {TORCHVISION[cfg.dataset]}"
        (class_names, train), (_, test) = (open_torchvision(cfg.dataset, Path(cfg.path), part) for part in (True, False))
    parts = split(cfg, class_names, train.labels, test=None if test is None else test.labels)
    train, test = train.subset(parts.train), (train if test is None else test).subset(parts.test)
    return Source(source, class_names, _resized(train, cfg.image_size), _resized(test, cfg.image_size), parts.holdout)


def raw_files(cfg: PrepareConfig) -> list[Path]:
    """The files that `load_source` reads, and all of torchvision's in their folder, which may not be there yet."""
    root = Path(cfg.path)
    if is_in_files(cfg):
        return [root / file for file in list_images(root, endings_of(cfg.events)).all_files]
    return sorted(Path(root, cfg.known.folder).glob("*")) if cfg.known and cfg.known.folder else []


def _digits() -> PackedImages:
    try:
        from sklearn.datasets import load_digits  # takes a second
    except ImportError:
        raise InputError("prepare.dataset = digits: needs scikit-learn", "install it with `pip install scikit-learn`") from None
    values, labels = (torch.from_numpy(values) for values in load_digits(return_X_y=True))  # values 0 … 16
    pixels = (values.reshape(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    return PackedImages(pixels, labels.long())


def open_torchvision(dataset: str, path: Path, train: bool) -> tuple[tuple[str, ...], PackedImages]:
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
    needed, memory = len(files) * math.prod(form.shape), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * memory:
        raise InputError(
            f"{len(files)} images of {form.image_size} pixels take {needed / 1e9:.0f} GB packed, "
            f"this machine has {memory / 1e9:.0f}",
            "set prepare.stream to true, or a smaller image_size",
        )
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


class Parts(NamedTuple):
    """Which images are which, as ascending indices."""

    train: Tensor
    """Of the images in train/ and then in val/: the training images, those on which candidates are scored among them."""
    test: Tensor
    """Of the test images, or of those in train/ where there are no test images."""
    holdout: Tensor
    """Of ``train``: the images on which candidates are scored."""


def split(
    cfg: PrepareConfig, class_names: Sequence[str], train: Tensor, val: Tensor | None = None, test: Tensor | None = None
) -> Parts:
    """Which images of the labels ``train``, ``val`` and ``test``, each (N,), are used for what, as ``cfg`` asks for it.

    Test images are split off ``train`` if there are none. The hold-out is ``val``, or is split off what is left of ``train``.
    """
    kept = torch.arange(len(train))
    if test is None:
        names = ("digits", "test") if cfg.dataset == "digits" else ()
        tested = _split_off(train, cfg.test_share, class_names, "prepare.test_share", *names)
        kept, test = torch.ones(len(train), dtype=torch.bool).index_fill(0, tested, False).nonzero().flatten(), train[tested]
    else:
        tested = torch.arange(len(test))
    tested = tested[_part(test, cfg.max_test_images, "prepare.max_test_images")]
    most = cfg.max_train_images
    if val is None:
        kept = kept[_part(train[kept], most, "prepare.max_train_images")]
        return Parts(kept, tested, _split_off(train[kept], cfg.holdout, class_names, "prepare.holdout"))
    of_val = None if most is None else round(most * len(val) / (len(kept) + len(val)))  # of both folders the same share
    kept = kept[_part(train[kept], most and most - (of_val or 0), "prepare.max_train_images")]
    scored = _part(val, of_val, "prepare.max_train_images", "prepare.max_train_images", "val")
    return Parts(torch.cat([kept, len(train) + scored]), tested, torch.arange(len(kept), len(kept) + len(scored)))


class SplitFiles(NamedTuple):
    """Files of images, relative to their root, and their labels (N,)."""

    train: list[str]
    train_labels: Tensor
    test: list[str]
    test_labels: Tensor
    holdout: Tensor
    """Indices of ``train``."""


def split_files(listing: Listing, cfg: PrepareConfig) -> SplitFiles:
    """The files of ``listing`` as ``cfg`` asks for them."""
    labels = {name: torch.tensor(found) for name in ("train", "val", "test") if (found := listing.labels(name)) is not None}
    parts = split(cfg, listing.class_names, **labels)
    train = listing.files("train") + listing.files("val")
    train_labels = torch.cat([labels[name] for name in ("train", "val") if name in labels])
    test, test_labels = (listing.files("test"), labels["test"]) if "test" in labels else (train, train_labels)
    of_train, of_test = [train[i] for i in parts.train], [test[i] for i in parts.test]
    return SplitFiles(of_train, train_labels[parts.train], of_test, test_labels[parts.test], parts.holdout)


def _split_off(labels: Tensor, share: float, class_names: Sequence[str], setting: str, *names: str) -> Tensor:
    """A stratified ``share`` drawn for ``names`` or ``setting``. InputError where a class has no image left to train on."""
    part = stratified_indices(labels, round(share * len(labels)), setting, *names)
    counts, taken = (torch.bincount(some.cpu(), minlength=len(class_names)) for some in (labels, labels[part]))
    if (counts == taken).any():
        bare = class_names[int((counts == taken).nonzero()[0])]
        problem = f"{setting} = {share}: leaves class {bare!r} no image to train on"
        raise InputError(problem, "add images of this class, or lower it")
    return part


def _part(labels: Tensor, at_most: int | None, setting: str, *names: str) -> Tensor:
    """A stratified part of at most that many, as the ``setting`` asks for it."""
    if at_most is None or at_most >= len(labels):
        return torch.arange(len(labels))
    return stratified_indices(labels, at_most, setting, *names)
