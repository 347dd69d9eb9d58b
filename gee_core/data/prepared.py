"""The prepared images on disk: arrays, or lists of files, and meta.json; written whole, verified when read."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.splits import stratified_indices
from gee_core.errors import InputError
from gee_core.storage.atomic_files import flush, flush_folder, sha256, write_atomically, write_json, writing
from gee_core.storage.json_object import read_json_model

Count = Annotated[int, Field(ge=1)]
UNEVEN = 3
"""How many times as many training images the largest class may have as the smallest without being mentioned."""


class Meta(BaseModel):
    """What meta.json says about the images."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    dataset: str
    """The name of the images: `prepare.data_name`."""
    source: str
    """Where they come from; for streamed images, the root of the files."""
    class_names: tuple[str, ...]
    class_counts: tuple[Annotated[int, Field(ge=0)], ...]
    """Training images of each class, with the hold-out."""
    num_classes: Count
    in_channels: Count
    image_size: Count
    """Side in pixels."""
    mean: tuple[float, ...]
    """Of each channel, of the training images in [0, 1]."""
    std: tuple[float, ...]
    n_train: Count
    """With the hold-out."""
    n_test: Count
    n_holdout: Count
    stream: bool
    sha256: dict[str, str]
    """Of every other file; for streamed images also of the names and sizes of their files (`train_images`, `test_images`)."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "Meta":
        of_classes, of_channels = {len(self.class_names), len(self.class_counts)}, {len(self.mean), len(self.std)}
        if of_classes != {self.num_classes} or of_channels != {self.in_channels}:
            raise ValueError("its class_names, class_counts, mean and std are not as many as it says")
        if set(self.sha256) != _checked_files(self.stream):
            raise ValueError("its sha256 is not of these files")
        return self

    @property
    def normalise(self) -> Normalise:
        """Turns the images into the network's input."""
        return Normalise(self.mean, self.std)

    @property
    def unevenness(self) -> str:
        """Says how uneven the classes are if the largest has more than UNEVEN times the training images of the smallest."""
        sizes = list(zip(self.class_counts, self.class_names, strict=True))
        (few, smallest), (many, largest) = (f(sizes, key=lambda pair: pair[0]) for f in (min, max))
        if many <= UNEVEN * few:
            return ""
        return f"{largest!r} has {many:,} training images, {many / max(few, 1):.1f} times as many as {smallest!r} with {few:,}"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are equal for equal images, labels, hold-out and class names, wherever they come from."""
        return hashlib.sha256(json.dumps([self.class_names, self.sha256], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Prepared:
    """The images that every stage after prepare works on."""

    meta: Meta
    train: PackedImages | StreamedImages
    """With the hold-out."""
    test: PackedImages | StreamedImages
    holdout: Tensor
    """int64, indices into ``train``."""

    def proxy_train(self, n: int | None, seed: int) -> PackedImages | StreamedImages:
        """The training images without the hold-out: all of them, or a stratified ``n``.

        Raises:
            InputError: ``n`` is more than there are, or fewer than the classes.
        """
        rest = torch.ones(len(self.train), dtype=torch.bool).index_fill(0, self.holdout, False).nonzero().flatten()
        if n is not None:
            rest = rest[stratified_indices(self.train.labels[rest], n, seed, "evolve.proxy_images")]
        return self.train.subset(rest)

    def holdout_images(self) -> PackedImages | StreamedImages:
        """The hold-out, on which candidates are scored."""
        return self.train.subset(self.holdout)


def write_prepared(
    folder: Path,
    *,
    dataset: str,
    source: str,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    train: PackedImages | StreamedImages,
    test: PackedImages | StreamedImages,
    holdout: Tensor,
) -> Meta:
    """Write everything to a folder beside ``folder``, flush it, then rename it to ``folder``.

    Raises:
        InputError: the disk is full, or the folder is not writable; the old content of ``folder`` is kept.
    """
    partial, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _put_back(old, folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        checksums = _write_images(partial, "train", train) | _write_images(partial, "test", test)
        _write_array(partial / "holdout.npy", holdout)
        meta = Meta(
            dataset=dataset,
            source=source,
            class_names=tuple(class_names),
            class_counts=tuple(torch.bincount(train.labels.cpu(), minlength=len(class_names)).tolist()),
            num_classes=len(class_names),
            in_channels=train.in_channels,
            image_size=train.image_size,
            mean=tuple(mean),
            std=tuple(std),
            n_train=len(train),
            n_test=len(test),
            n_holdout=len(holdout),
            stream=isinstance(train, StreamedImages),
            sha256={path.name: sha256(path) for path in sorted(partial.iterdir())} | checksums,
        )
        write_json(partial / "meta.json", meta.model_dump())
        with writing(folder):
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
            flush_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _put_back(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return meta


def load_prepared(folder: Path) -> Prepared:
    """Read what ``write_prepared`` wrote, on the CPU; arrays are mapped into memory, not copied.

    Raises:
        InputError: a file is missing or damaged.
    """
    meta = load_meta(folder)
    for name, expected in meta.sha256.items():
        if "." in name and sha256(_existing(folder / name)) != expected:
            raise InputError(f"{folder / name}: damaged, its checksum is not the one in meta.json")
    train, test = (_read_images(folder, split, meta) for split in ("train", "test"))
    data = Prepared(meta, train, test, _read_array(folder / "holdout.npy"))
    _check_agreement(data, folder)
    return data


def load_meta(folder: Path) -> Meta:
    """What meta.json in ``folder`` says; the images are not read.

    Raises:
        InputError: it is missing or damaged.
    """
    path = _existing(folder / "meta.json")
    try:
        return read_json_model(path, Meta)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from None


def _checked_files(stream: bool) -> set[str]:
    of_images = ("files.txt", "images") if stream else ("images.npy",)
    return {"holdout.npy"} | {f"{split}_{what}" for split in ("train", "test") for what in ("labels.npy", *of_images)}


def _check_agreement(data: Prepared, folder: Path) -> None:
    """Files with the right checksums may still have been written by another program."""
    meta = data.meta
    counts = (len(data.train), len(data.test), len(data.holdout)) == (meta.n_train, meta.n_test, meta.n_holdout)
    shape = all((x.in_channels, x.image_size) == (meta.in_channels, meta.image_size) for x in (data.train, data.test))
    labels = all(_within(x.labels, meta.num_classes) for x in (data.train, data.test))
    if not (counts and shape and labels and _within(data.holdout, meta.n_train)):
        raise InputError(f"{folder}: its arrays are not the images that its meta.json describes")


def _within(indices: Tensor, n: int) -> bool:
    return indices.dtype == torch.int64 and indices.ndim == 1 and int(indices.min()) >= 0 and int(indices.max()) < n


def _put_back(old: Path, folder: Path) -> None:
    """Undo the first of the two renames if the second did not happen, in this run or in one that was killed."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_images(folder: Path, split: str, images: PackedImages | StreamedImages) -> dict[str, str]:
    _write_array(folder / f"{split}_labels.npy", images.labels)
    if isinstance(images, PackedImages):
        _write_array(folder / f"{split}_images.npy", images.images)
        return {}
    if any("\n" in name for name in images.files):
        raise InputError(f"{images.root}: a file name holds a line break", "rename it")
    write_atomically(folder / f"{split}_files.txt", b"".join(os.fsencode(name) + b"\n" for name in images.files))
    return {f"{split}_images": _names_and_sizes(images)}


def _read_images(folder: Path, split: str, meta: Meta) -> PackedImages | StreamedImages:
    labels = _read_array(folder / f"{split}_labels.npy")
    if not meta.stream:
        path = folder / f"{split}_images.npy"
        pixels = _read_array(path)
        try:
            return PackedImages(pixels, labels)
        except ValueError as error:
            raise InputError(f"{path}: not an array of prepare's ({error})") from None
    files = os.fsdecode((folder / f"{split}_files.txt").read_bytes()).split("\n")[:-1]
    images = StreamedImages(files, labels, Path(meta.source), meta.image_size, meta.in_channels)
    if _names_and_sizes(images) != meta.sha256.get(f"{split}_images"):
        raise InputError(f"{meta.source}: its images have changed since they were prepared", "prepare them again")
    return images


def _names_and_sizes(images: StreamedImages) -> str:
    """SHA-256 over the name and size in bytes of each file: reading all contents would take as long as an epoch."""
    digest = hashlib.sha256()
    for name in images.files:
        path = images.root / name
        try:
            digest.update(os.fsencode(f"{name}\t{path.stat().st_size}\n"))
        except FileNotFoundError:
            raise InputError(f"{path}: not found", "put it back, or prepare the images again without it") from None
    return digest.hexdigest()


def _write_array(path: Path, values: Tensor) -> None:
    with writing(path), path.open("wb") as file:
        np.save(file, values.cpu().numpy(), allow_pickle=False)
        flush(file)


def _read_array(path: Path) -> Tensor:
    _existing(path)
    try:  # copy-on-write, not read-only: torch warns about arrays that it cannot write to; the file never changes
        return torch.from_numpy(np.lib.format.open_memmap(path, mode="c"))
    except (ValueError, TypeError, EOFError, OverflowError) as error:
        raise InputError(f"{path}: not an array of prepare's ({error})") from None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: not found")
    return path
