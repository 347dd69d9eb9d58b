"""The prepared images on disk: arrays, or lists of files, and meta.json. Written whole, verified when read."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gee_core.config import Events
from gee_core.data.images import PackedImages, StreamedImages, stratified_indices
from gee_core.data.meta import Meta, existing, load_meta
from gee_core.errors import InputError
from gee_core.storage.atomic_files import flush, flush_folder, sha256, write_atomically, write_json, writing


@dataclass(frozen=True, eq=False)
class Source:
    """A data set whose images all have one size."""

    source: str
    """What it comes from, not the place of it. For streamed images, the root of the files."""
    class_names: tuple[str, ...]
    train: PackedImages | StreamedImages
    test: PackedImages | StreamedImages
    holdout: Tensor
    """Indices into ``train`` of the images on which candidates are scored."""
    events: Events | None = None
    """How recordings became frames, None for images."""
    has_val: bool = False
    """Whether the hold-out has a folder of its own."""
    unread: tuple[str, ...] = ()
    """What looks like images in the folder, but is not read."""
    contents: tuple[str, ...] = ()
    """Of streamed images: a hash over the contents of the files of ``train``, and one of ``test``."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The images that every stage after prepare works on."""

    meta: Meta
    train: PackedImages | StreamedImages
    """With the hold-out."""
    test: PackedImages | StreamedImages
    holdout: Tensor
    """int64, indices into ``train``."""

    def proxy_train(self, n: int | None = None) -> PackedImages | StreamedImages:
        """The training images without the hold-out: all of them, or a stratified ``n``."""
        rest = torch.ones(len(self.train), dtype=torch.bool).index_fill(0, self.holdout, False).nonzero().flatten()
        if n is not None:
            rest = rest[stratified_indices(self.train.labels[rest], n, "evolve.proxy.images", "evolve.proxy_images")]
        return self.train.subset(rest)

    def holdout_images(self) -> PackedImages | StreamedImages:
        """The hold-out, on which candidates are scored."""
        return self.train.subset(self.holdout)


def write_prepared(folder: Path, dataset: str, data: Source, mean: tuple[float, ...], std: tuple[float, ...]) -> Meta:
    """Write everything next to ``folder``, flush it, then rename it. InputError where the disk is full or not writable."""
    train, test, n_classes = data.train, data.test, len(data.class_names)
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    try:
        of_train, of_test = data.contents or ("", "")
        checksums = _write_images(partial, "train", train, of_train) | _write_images(partial, "test", test, of_test)
        _write_array(partial / "holdout.npy", data.holdout)
        meta = Meta(
            dataset=dataset,
            source=data.source,
            class_names=data.class_names,
            class_counts=tuple(torch.bincount(train.labels.cpu(), minlength=n_classes).tolist()),
            num_classes=n_classes,
            in_channels=train.in_channels,
            image_size=train.image_size,
            mean=mean,
            std=std,
            n_train=len(train),
            n_test=len(test),
            n_holdout=len(data.holdout),
            stream=isinstance(train, StreamedImages),
            events=data.events,
            sha256={path.name: sha256(path) for path in sorted(partial.iterdir())} | checksums,
        )
        write_json(partial / "meta.json", meta.model_dump())
        with writing(folder):
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
            flush_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return meta


def load_prepared(folder: Path) -> Prepared:
    """What ``write_prepared`` wrote, mapped into memory. An InputError if a file is missing or damaged."""
    meta = load_meta(folder)
    for name, expected in meta.sha256.items():
        if "." in name and sha256(existing(folder / name)) != expected:
            raise InputError(f"{folder / name}: damaged, its checksum is not the one in meta.json")
    train, test = (_read_images(folder, split, meta) for split in ("train", "test"))
    return Prepared(meta, train, test, _read_array(folder / "holdout.npy"))


def _write_images(folder: Path, split: str, images: PackedImages | StreamedImages, contents: str) -> dict[str, str]:
    _write_array(folder / f"{split}_labels.npy", images.labels)
    if isinstance(images, PackedImages):
        _write_array(folder / f"{split}_images.npy", images.images)
        return {}
    if any("\n" in name for name in images.files):
        raise InputError(f"{images.root}: a file name holds a line break", "rename it")
    write_atomically(folder / f"{split}_files.txt", b"".join(name + b"\n" for name in images.names.tolist()))
    return {f"{split}_images": _names_and_sizes(images), f"{split}_contents": contents}


def _read_images(folder: Path, split: str, meta: Meta) -> PackedImages | StreamedImages:
    labels = _read_array(folder / f"{split}_labels.npy")
    if not meta.stream:
        return PackedImages(_read_array(folder / f"{split}_images.npy"), labels)
    names = np.array((folder / f"{split}_files.txt").read_bytes().splitlines())
    images = StreamedImages(names, labels, Path(meta.source), meta.image_size, meta.in_channels, meta.events)
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
    array = np.ascontiguousarray(values.cpu().numpy())
    with writing(path), path.open("wb") as file:  # not np.save, which passes over an error of its last write
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
        flush(file)


def _read_array(path: Path) -> Tensor:
    # copy-on-write, not read-only: torch warns about arrays that it cannot write to; the file never changes
    return torch.from_numpy(np.lib.format.open_memmap(path, mode="c"))
