"""Where images come from: scikit-learn's digits, torchvision's sets, folders of image files or recordings."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gee_core.config import PrepareConfig
from gee_core.data.folders import FileList, endings_of, is_in_files, list_images
from gee_core.data.image_files import Form, as_array, checksums, common_form, decoded, in_order
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.prepared import Source
from gee_core.data.splits import part_of, split_files, split_off
from gee_core.data.torchvision_sets import torchvision_images
from gee_core.errors import InputError

Progress = Callable[[int, int], None]
"""Called with the number of images decoded so far and the number of all images."""

IN_FOLDERS, OF_EVENTS = "a folder of images", "a folder of recordings"
"""Where packed images of class folders come from: without the path, so that a moved folder is prepared into the same files."""


def load_source(cfg: PrepareConfig, on_progress: Progress | None = None) -> Source:
    """The images that ``cfg`` names; InputError where they are missing, damaged, or do not fit ``cfg``."""
    check_streamable(cfg)
    if is_in_files(cfg):
        return _from_files(cfg, on_progress)
    found = _digits(cfg) if cfg.dataset == "digits" else torchvision_images(cfg.dataset, Path(cfg.path))
    source, class_names, train, test = found
    train = _resized(part_of(train, cfg.max_train_images, cfg, "max_train_images"), cfg.image_size)
    test = _resized(part_of(test, cfg.max_test_images, cfg, "max_test_images"), cfg.image_size)
    return Source(source, class_names, train, test)


def check_streamable(cfg: PrepareConfig) -> None:
    """Raise an InputError if ``cfg`` asks for a stream, and there are no files of images."""
    if cfg.stream and not is_in_files(cfg):
        raise InputError(f"`stream` = true: {cfg.path} has no class folders in train/", "set it to false")


def raw_files(cfg: PrepareConfig) -> list[Path]:
    """The files that `load_source` reads, and all others of torchvision's in their folder; none if they are not there yet."""
    root = Path(cfg.path)
    if is_in_files(cfg):
        listing = list_images(root, endings_of(cfg.events))
        return [root / file for part in (listing.train, listing.val, listing.test) if part for file in part.files]
    return sorted(Path(root, cfg.known.folder).glob("*")) if cfg.known and cfg.known.folder else []


def _digits(cfg: PrepareConfig) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    try:
        from sklearn.datasets import load_digits  # takes a second
    except ImportError:
        raise InputError("`dataset` = digits: needs scikit-learn", "install it with `pip install scikit-learn`") from None
    values, labels = (torch.from_numpy(values) for values in load_digits(return_X_y=True))  # values 0 … 16
    labels = labels.long()
    digits = PackedImages((values.reshape(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8), labels)
    classes = tuple("0123456789")
    test = split_off(labels, cfg.test_share, cfg.split_seed, classes, "test_share", "digits", "test")
    train = torch.ones(len(labels), dtype=torch.bool).index_fill(0, test, False).nonzero().flatten()
    return "scikit-learn digits", classes, digits.subset(train), digits.subset(test)


def _resized(images: PackedImages, size: int | None) -> PackedImages:
    if size is None or size == images.image_size:
        return images
    from torchvision.transforms.v2.functional import resize

    pieces = [resize(piece, [size, size], antialias=True) for piece in images.images.split(4096)]  # they are square
    return PackedImages(torch.cat(pieces), images.labels)


def _from_files(cfg: PrepareConfig, on_progress: Progress | None) -> Source:
    root = Path(cfg.path)
    listing = list_images(root, endings_of(cfg.events))
    n_classes = cfg.known.n_classes if cfg.known else len(listing.class_names)
    if len(listing.class_names) != n_classes:
        raise InputError(
            f"{root / 'train'}: holds {len(listing.class_names)} class folders, {cfg.dataset} has {n_classes}",
            f"set `dataset` to {'folder' if cfg.events is None else 'events'}",
        )
    files, holdout, test_files = split_files(listing, cfg)
    form = common_form(root, files.files + test_files.files, cfg.image_size, cfg.events)
    parts = (files, test_files)
    if cfg.stream:
        contents, of_form = _contents(root, parts, form, on_progress), (form.image_size, form.in_channels, form.events)
        train, test = (StreamedImages(as_array(p.files), torch.tensor(p.labels), root, *of_form) for p in parts)
        return Source(cfg.path, listing.class_names, train, test, holdout, contents, form.events)
    packed, packed_test = _decode_all(root, parts, form, on_progress)
    where = IN_FOLDERS if form.events is None else OF_EVENTS
    return Source(where, listing.class_names, packed, packed_test, holdout, events=form.events)


def _contents(root: Path, parts: tuple[FileList, ...], form: Form, on_progress: Progress | None) -> tuple[str, ...]:
    """For each part the SHA-256 over its files' checksums; every file is decoded."""
    digests = [hashlib.sha256() for _ in parts]
    for part, _, found in _each_batch(partial(checksums, form), root, parts, on_progress):
        digests[part].update("".join(found).encode())
    return tuple(digest.hexdigest() for digest in digests)


def _decode_all(root: Path, parts: tuple[FileList, ...], form: Form, on_progress: Progress | None) -> list[PackedImages]:
    _check_fits(sum(len(part.files) for part in parts), form)
    images = [torch.empty(len(part.files), *form.shape, dtype=torch.uint8) for part in parts]
    for part, indices, batch in _each_batch(partial(decoded, form), root, parts, on_progress):
        images[part][indices[0] : indices[-1] + 1] = batch
    return [PackedImages(pixels, torch.tensor(part.labels)) for pixels, part in zip(images, parts, strict=True)]


def _each_batch(
    work: Callable[[list[Path]], Any], root: Path, parts: tuple[FileList, ...], on_progress: Progress | None
) -> Iterator[tuple[int, Tensor, Any]]:
    """For each batch of files, one part after the other: number of the part, indices in it, and what ``work`` made of them."""
    total, done = sum(len(part.files) for part in parts), 0
    for number, part in enumerate(parts):
        batches = torch.arange(len(part.files)).split(256)
        for indices, result in zip(batches, in_order(work, as_array(part.files), root, batches), strict=True):
            yield number, indices, result
            done += len(indices)
            if on_progress is not None:
                on_progress(done, total)


def _check_fits(n: int, form: Form) -> None:
    needed = n * math.prod(form.shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * memory:
        raise InputError(
            f"{n} images of {form.image_size} pixels take {needed / 1e9:.0f} GB packed, this machine has {memory / 1e9:.0f}",
            "set `stream` to true, or a smaller `image_size`",
        )
