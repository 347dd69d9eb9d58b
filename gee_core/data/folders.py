"""Folders of images: train/ and test/ (or val/), one folder per class in each.

The root, the class folders and the image files may be links, also to places outside. Links to folders below a class folder
are not followed, because they could form a cycle. What a link leads to has to be an image.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gee_core.data.pixels import EXTENSIONS
from gee_core.errors import InputError


@dataclass(frozen=True, eq=False)
class FileList:
    """Image files, relative to their root, and their labels (N,)."""

    files: list[str]
    labels: Tensor

    def subset(self, indices: Tensor) -> "FileList":
        """The files at ``indices``."""
        return FileList([self.files[i] for i in indices.tolist()], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of an image folder. Classes are its sorted folder names."""

    class_names: tuple[str, ...]
    train: FileList
    test: FileList


def list_images(root: Path) -> Listing:
    """Every image below ``root``/train and ``root``/test (or val), by class and name; nothing is opened.

    Raises:
        InputError: a folder is missing or empty, there are fewer than two classes, or train and test differ in them.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder", "set prepare.path to one that holds train/ and test/ (or val/)")
    train = root / "train"
    if not train.is_dir():
        raise InputError(f"{train}: no such folder", "put the training images there, one folder per class")
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if test is None:
        raise InputError(f"{root}: holds neither test/ nor val/", "put the test images there, one folder per class")
    class_names = _class_names(train)
    _check_classes(class_names, _class_names(test), train, test)
    return Listing(class_names, _list_split(root, train, class_names), _list_split(root, test, class_names))


def _class_names(split: Path) -> tuple[str, ...]:
    try:
        names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None
    if not names:
        raise InputError(f"{split}: holds no class folders", "make one folder per class and put its images there")
    for name in names:
        if not name.isprintable():  # control characters, and bytes that are not UTF-8
            raise InputError(f"{split}: the class folder {name!a} has unprintable characters in its name", "rename it")
    return tuple(names)


def _check_classes(in_train: tuple[str, ...], in_test: tuple[str, ...], train: Path, test: Path) -> None:
    if len(in_train) < 2:
        raise InputError(f"{train}: holds one class only, {in_train[0]!r}", "at least 2 are needed")
    for name in in_test:
        if name not in in_train:
            raise InputError(f"{test / name}: class {name!r} has no folder in {train}", "add its training images, or remove it")
    for name in in_train:
        if name not in in_test:
            raise InputError(f"{train / name}: class {name!r} has no folder in {test}", "add its test images, or remove it")


def _list_split(root: Path, split: Path, class_names: tuple[str, ...]) -> FileList:
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = _images_below(split / name, root)
        if not found:
            raise InputError(f"{split / name}: holds no images ({', '.join(EXTENSIONS)})", "add some, or remove the folder")
        files += found
        labels += [label] * len(found)
    return FileList(files, torch.tensor(labels))


def _images_below(folder: Path, root: Path) -> list[str]:
    """Images in ``folder`` and the folders inside it; hidden files, such as macOS's ``._x.jpg``, are ignored."""
    found: list[str] = []

    def fail(error: OSError) -> None:
        raise _unreadable(error)

    for parent, _, names in os.walk(folder, onerror=fail):
        relative = os.path.relpath(parent, root)
        images = (n for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith("."))
        found += (os.path.join(relative, name) for name in images)
    return sorted(found)


def _unreadable(error: OSError) -> InputError:
    return InputError(f"{error.filename}: cannot be read ({error.strerror})", "make it readable, or remove it")
