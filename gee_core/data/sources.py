"""Where images come from: scikit-learn's digits, torchvision's sets, folders of image files."""

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torchvision import datasets

from gee_core.config import PrepareConfig
from gee_core.data.folders import FileList, list_images
from gee_core.data.image_files import Form, as_array, decode_in_order, header
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.splits import stratified_indices
from gee_core.errors import InputError

Progress = Callable[[int, int], None]
"""Called with the images decoded so far and the number of all."""

TORCHVISION = {"fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
CIFAR_CLASSES = {"cifar10": 10, "cifar100": 100}
DIGITS_TEST = 0.2
DAMAGE = (RuntimeError, OSError, ValueError, TypeError, AssertionError, EOFError, LookupError, ArithmeticError)
"""What torchvision raises of files that are not what it wrote."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, its images of one size."""

    source: str
    """Where it comes from; the root of the files where they are streamed."""
    class_names: tuple[str, ...]
    train: PackedImages | StreamedImages
    test: PackedImages | StreamedImages


def load_source(cfg: PrepareConfig, on_progress: Progress | None = None) -> Source:
    """The images that ``cfg`` names, in the part and size that it asks for; read whole, unless ``cfg.stream``.

    Raises:
        InputError: they are missing, damaged, or do not fit ``cfg``.
    """
    in_files = cfg.dataset == "folder" or (cfg.dataset in CIFAR_CLASSES and (Path(cfg.path) / "train").is_dir())
    if cfg.stream and not in_files:
        raise InputError(f"prepare.stream: {cfg.dataset} does not come as image files: set it to false")
    if cfg.stream and cfg.image_size is None:
        raise InputError("prepare.stream: needs prepare.image_size, the side in pixels that images are brought to")
    if in_files:
        return _from_files(cfg, on_progress)
    return _from_arrays(cfg, *(_digits(cfg) if cfg.dataset == "digits" else _torchvision(cfg)))


def _digits(cfg: PrepareConfig) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("prepare.dataset = digits: needs scikit-learn; install it with `pip install scikit-learn`") from None
    bunch = load_digits()
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    values = torch.tensor(bunch.images)[:, None]  # 0 … 16
    digits = PackedImages((values * (255 / 16)).round().to(torch.uint8), labels)
    test = stratified_indices(labels, round(DIGITS_TEST * len(labels)), cfg.split_seed, "digits", "test")
    train = torch.ones(len(labels), dtype=torch.bool).index_fill(0, test, False).nonzero().flatten()
    names = tuple(str(name) for name in bunch.target_names)
    return "scikit-learn digits", names, digits.subset(train), digits.subset(test)


def _torchvision(cfg: PrepareConfig) -> tuple[str, tuple[str, ...], PackedImages, PackedImages]:
    kind, path = TORCHVISION[cfg.dataset], Path(cfg.path)
    try:
        parts = [_whole_or_download(cfg.dataset, path), kind(path, train=False)]
        names = tuple(parts[0].classes)
        train, test = (_packed(part, len(names)) for part in parts)
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(cfg.dataset, path, error) from None
    return f"torchvision {kind.__name__}", names, train, test


def _whole_or_download(dataset: str, path: Path) -> datasets.VisionDataset:
    try:
        return TORCHVISION[dataset](path, train=True)
    except RuntimeError as error:
        if "not found" not in str(error):  # they are there, but cannot be read
            raise
    return _download(dataset, path)


def _download(dataset: str, path: Path) -> datasets.VisionDataset:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return TORCHVISION[dataset](path, train=True, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        why = f"the download failed ({' '.join(str(error).split())[:120]})"
        where = path / "FashionMNIST/raw" if dataset == "fashion_mnist" else path / TORCHVISION[dataset].base_folder
        folders = "" if dataset == "fashion_mnist" else f", or class folders of images in {path}/train and {path}/test"
        what, remedy = f"not found in {where}", f"put torchvision's files there{folders}, or go online"
        for half in filter(Path.is_file, _archives(dataset, path)):
            what, remedy = f"{half} is not complete", "delete it, then put the whole one there or go online"
        raise InputError(f"prepare.dataset = {dataset}: {what}, and {why}: {remedy}") from None


def _archives(dataset: str, path: Path) -> list[Path]:
    """What torchvision downloads; one that is there though nothing was unpacked from it has another checksum than it knows."""
    if dataset == "fashion_mnist":
        return [path / "FashionMNIST/raw" / name for name, _ in datasets.FashionMNIST.resources]
    return [path / TORCHVISION[dataset].filename]


def _damaged(dataset: str, path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return InputError(f"{path}: the files of {dataset} are damaged ({reason}): delete them, then `dvc repro prepare`")


def _packed(dataset: datasets.VisionDataset, n_classes: int) -> PackedImages:
    images, labels = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets, dtype=torch.int64)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    if not len(labels) or images.shape[2] != images.shape[3] or not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"images {tuple(images.shape)} with labels of other than {n_classes} classes")
    return PackedImages(images.contiguous(), labels)


def _from_arrays(
    cfg: PrepareConfig, source: str, class_names: tuple[str, ...], train: PackedImages, test: PackedImages
) -> Source:
    train = train.subset(_kept(train.labels, cfg.max_train_images, cfg.split_seed, "prepare.max_train_images"))
    test = test.subset(_kept(test.labels, cfg.max_test_images, cfg.split_seed, "prepare.max_test_images"))
    return Source(source, class_names, _resized(train, cfg.image_size), _resized(test, cfg.image_size))


def _resized(images: PackedImages, size: int | None) -> PackedImages:
    if size is None or size == images.image_size:
        return images
    pieces = [TF.resize(piece, [size, size], antialias=True) for piece in images.images.split(4096)]  # they are square
    return PackedImages(torch.cat(pieces), images.labels)


def _from_files(cfg: PrepareConfig, on_progress: Progress | None) -> Source:
    root = Path(cfg.path)
    listing = list_images(root)
    n_classes = CIFAR_CLASSES.get(cfg.dataset, len(listing.class_names))
    if len(listing.class_names) != n_classes:
        raise InputError(
            f"{root / 'train'}: holds {len(listing.class_names)} class folders, {cfg.dataset} has {n_classes}: "
            "set prepare.dataset to folder"
        )
    train, test = listing.train, listing.test
    train = train.part(_kept(train.labels, cfg.max_train_images, cfg.split_seed, "prepare.max_train_images"))
    test = test.part(_kept(test.labels, cfg.max_test_images, cfg.split_seed, "prepare.max_test_images"))
    form = _common_form(root, train.files + test.files, cfg.image_size)
    if cfg.stream:
        streamed = (StreamedImages(p.files, p.labels, root, form.image_size, form.in_channels) for p in (train, test))
        return Source(cfg.path, listing.class_names, *streamed)
    return Source(cfg.path, listing.class_names, *_decode_all(root, (train, test), form, on_progress))


def _common_form(root: Path, files: list[str], image_size: int | None) -> Form:
    """Grey only where every image is; the size of the first image where none is asked for."""
    in_channels = 1 if all(header(root / name)[2] for name in files) else 3
    if image_size is not None:
        return Form(image_size, in_channels, resize=True)
    width, height, _ = header(root / files[0])
    if width != height:
        raise InputError(f"{root / files[0]}: is {width}x{height}, not square: set prepare.image_size to make it so")
    return Form(width, in_channels, resize=False)


def _decode_all(root: Path, parts: tuple[FileList, ...], form: Form, on_progress: Progress | None) -> list[PackedImages]:
    total = sum(len(part.files) for part in parts)
    _check_fits(total, form)
    packed, done = [], 0
    for part in parts:
        n = len(part.files)
        images = torch.empty(n, form.in_channels, form.image_size, form.image_size, dtype=torch.uint8)
        batches = torch.arange(n).split(256)
        decoded = decode_in_order(as_array(part.files), root, form, batches)
        for indices, batch in zip(batches, decoded, strict=True):
            images[indices[0] : indices[-1] + 1] = batch
            done += len(batch)
            if on_progress is not None:
                on_progress(done, total)
        packed.append(PackedImages(images, part.labels))
    return packed


def _check_fits(n: int, form: Form) -> None:
    needed = n * form.in_channels * form.image_size**2
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * memory:
        raise InputError(
            f"prepare: {n} images of {form.image_size} pixels take {needed / 1e9:.0f} GB packed, this machine has "
            f"{memory / 1e9:.0f}: set prepare.stream to true, or a smaller prepare.image_size"
        )


def _kept(labels: Tensor, at_most: int | None, seed: int, knob: str) -> Tensor:
    if at_most is None or at_most >= len(labels):
        return torch.arange(len(labels))
    return stratified_indices(labels, at_most, seed, knob)
