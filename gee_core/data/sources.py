"""Where images come from: scikit-learn's digits, torchvision's sets, folders of image files or recordings."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from gee_core.config import PrepareConfig
from gee_core.data.folders import endings_of, is_in_files, list_images
from gee_core.data.image_files import Form, Result, as_array, checksums, common_form, decoded, in_order
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.prepared import Source
from gee_core.data.splits import part_of, split_files, split_off
from gee_core.data.torchvision_sets import torchvision_images
from gee_core.errors import InputError

Progress = Callable[[int, int], None]
"""Called with the number of images decoded so far and the number of all images."""

BATCH = 256
"""Files that a worker process decodes at once."""

IN_FOLDERS, OF_EVENTS = "a folder of images", "a folder of recordings"
"""Where packed images of class folders come from: without the path, so that a moved folder is prepared into the same files."""


def load_source(cfg: PrepareConfig, on_progress: Progress = lambda done, total: None) -> Source:
    """The images that ``cfg`` names. InputError where they are missing, damaged, or do not fit ``cfg``."""
    check_streamable(cfg)
    if is_in_files(cfg):
        return _from_files(cfg, on_progress)
    images = _digits(cfg) if cfg.dataset == "digits" else torchvision_images(cfg.dataset, Path(cfg.path))
    source, class_names, train, test = images
    train = _resized(part_of(train, cfg.max_train_images, cfg, "max_train_images"), cfg.image_size)
    test = _resized(part_of(test, cfg.max_test_images, cfg, "max_test_images"), cfg.image_size)
    return Source(source, class_names, train, test)


def check_streamable(cfg: PrepareConfig) -> None:
    """Raise an InputError if ``cfg`` asks for a stream, and there are no files of images."""
    if cfg.stream and not is_in_files(cfg):
        raise InputError(f"{{argument}} = true: {cfg.path} has no class folders in train/", "set it to false", "stream")


def raw_files(cfg: PrepareConfig) -> list[Path]:
    """The files that `load_source` reads, and all of torchvision's in their folder, which may not be there yet."""
    root = Path(cfg.path)
    if is_in_files(cfg):
        return [root / file for file in list_images(root, endings_of(cfg.events)).all_files]
    return sorted(Path(root, cfg.known.folder).glob("*")) if cfg.known and cfg.known.folder else []


def _digits(cfg: PrepareConfig) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    try:
        from sklearn.datasets import load_digits  # takes a second
    except ImportError:
        raise InputError(
            "{argument} = digits: needs scikit-learn", "install it with `pip install scikit-learn`", "dataset"
        ) from None
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


def _from_files(cfg: PrepareConfig, on_progress: Progress) -> Source:
    root = Path(cfg.path)
    listing = list_images(root, endings_of(cfg.events))
    n_classes = cfg.known.n_classes if cfg.known else len(listing.class_names)
    if len(listing.class_names) != n_classes:
        raise InputError(
            f"{root / 'train'}: holds {len(listing.class_names)} class folders, {cfg.dataset} has {n_classes}",
            f"set {{argument}} to {'folder' if cfg.events is None else 'events'}",
            "dataset",
        )
    train, holdout, test = split_files(listing, cfg)
    n, files = len(train.files), train.files + test.files
    form = common_form(root, files, cfg.image_size, cfg.events)
    labels, test_labels = torch.tensor(train.labels), torch.tensor(test.labels)
    if cfg.stream:
        digests = [digest for batch in _each_batch(partial(checksums, form), root, files, on_progress) for digest in batch]
        contents = tuple(hashlib.sha256("".join(part).encode()).hexdigest() for part in (digests[:n], digests[n:]))
        streamed = StreamedImages(as_array(train.files), labels, root, form.image_size, form.in_channels, form.events)
        streamed_test = replace(streamed, names=as_array(test.files), labels=test_labels)
        return Source(cfg.path, listing.class_names, streamed, streamed_test, holdout, contents, form.events)
    _check_fits(len(files), form)
    images = torch.empty(len(files), *form.shape, dtype=torch.uint8)
    for part, batch in zip(images.split(BATCH), _each_batch(partial(decoded, form), root, files, on_progress), strict=True):
        part[:] = batch
    packed, packed_test = PackedImages(images[:n], labels), PackedImages(images[n:], test_labels)
    where = IN_FOLDERS if form.events is None else OF_EVENTS
    return Source(where, listing.class_names, packed, packed_test, holdout, events=form.events)


def _each_batch(
    work: Callable[[Sequence[Path]], Result], root: Path, files: Sequence[str], on_progress: Progress
) -> Iterator[Result]:
    """``work`` of the ``files``, BATCH after BATCH."""
    batches = torch.arange(len(files)).split(BATCH)
    for indices, result in zip(batches, in_order(work, as_array(files), root, batches), strict=True):
        yield result
        on_progress(int(indices[-1]) + 1, len(files))


def _check_fits(n: int, form: Form) -> None:
    needed = n * math.prod(form.shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * memory:
        raise InputError(
            f"{n} images of {form.image_size} pixels take {needed / 1e9:.0f} GB packed, this machine has {memory / 1e9:.0f}",
            "set {argument} to true, or a smaller image_size",
            "stream",
        )
