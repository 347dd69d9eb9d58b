"""Folders of images or recordings, one folder per class: in train/, val/ and test/, or all in one.

| in the folder | training | hold-out | test |
|---|---|---|---|
| train/, val/, test/ | train/ and val/ | val/ | test/ |
| train/ and test/, or train/ and val/ | train/ | split off train/ | test/ or val/ |
| train/, or class folders alone | what is left of them | split off what is left | split off all |

Links are followed. A link to a folder below a class folder is not followed, because it could form a cycle.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gee_core.config import Events, PrepareConfig
from gee_core.data.pixels import EXTENSIONS
from gee_core.errors import InputError

NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What the folder of each split may be called."""

OTHER_FORMATS = (".tif", ".tiff", ".gif", ".jfif", ".jp2", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".tga", ".dcm", ".npy")
"""Ends of the names of images that are not read."""

RECORDINGS = (".bin", ".npy", ".npz")
"""By which recordings of event cameras are found in folders, in any case."""
KINDS = {EXTENSIONS: ("images", RECORDINGS, "events"), RECORDINGS: ("recordings", EXTENSIONS, "folder")}
"""By the ends of names that are read: what such files are, the others, and the `dataset` of these."""

ByClass = dict[str, list[str]]
"""The image files of each class, relative to the root."""


@dataclass(frozen=True)
class Listing:
    """The files of an image folder, by split and class."""

    root: Path
    splits: dict[str, Path]
    """As of ``find_splits``."""
    by_class: dict[str, ByClass]
    """The files of each of these splits."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The sorted names of the class folders."""
        return tuple(self.by_class["train"])

    def files(self, split: str) -> list[str]:
        """The files of `train`, `val` or `test`, class by class. None at all where the split has no folder."""
        return [file for files in self.by_class.get(split, {}).values() for file in files]

    def labels(self, split: str) -> list[int] | None:
        """The labels of ``files``. None where the split has no folder."""
        if split not in self.by_class:
            return None
        return [label for label, files in enumerate(self.by_class[split].values()) for _ in files]

    @property
    def all_files(self) -> list[str]:
        """The files of all splits."""
        return [file for split in self.by_class for file in self.files(split)]

    def unread(self) -> list[str]:
        """What looks like images but is not read, such as `12 images in eval/`: other folders, and other formats."""
        root, splits, notes = self.root, self.splits.values(), []
        for folder in () if root in splits else (root / name for name in folders_in(root)):
            if folder not in splits and (n := len(files_below(folder, root, EXTENSIONS))):
                notes.append(f"{n:,} image{'' if n == 1 else 's'} in {folder.name}/")
        ends = (Path(name).suffix.lower() for split in splits for _, _, names in walk(split) for name in names)
        formats = Counter(end for end in ends if end in OTHER_FORMATS)
        return notes + [f"{n:,} {end}" for end, n in formats.most_common()]


def endings_of(events: Events | None) -> tuple[str, ...]:
    """Ends of the names of the files that are read: of images, or with ``events`` of recordings."""
    return EXTENSIONS if events is None else RECORDINGS


def is_in_files(cfg: PrepareConfig) -> bool:
    """Whether the images are files in class folders of `path`. Of images that torchvision may have, the disk says it."""
    return cfg.known is None or cfg.events is not None or (cfg.known.class_folders and Path(cfg.path, "train").is_dir())


def list_images(root: Path, endings: tuple[str, ...] = EXTENSIONS) -> Listing:
    """Every image below ``root``, by split, class and name. Nothing is opened. An InputError names the first problem."""
    listing = list_all(root, endings)
    for problem in problems(listing, endings):
        raise problem
    return listing


def list_all(root: Path, endings: tuple[str, ...]) -> Listing:
    """As ``list_images``, also where there are ``problems`` with the classes."""
    splits, by_class = find_splits(root), {}
    for split, path in splits.items():
        names = folders_in(path)
        if not names:
            raise InputError(f"{path}: holds no class folders", "make one folder per class and put its images there")
        for name in names:
            if not name.isprintable():  # control characters, and bytes that are not UTF-8
                raise InputError(f"{path}: the class folder {name!a} has unprintable characters in its name", "rename it")
        by_class[split] = {name: files_below(path / name, root, endings) for name in names}
    return Listing(root, splits, by_class)


def find_splits(root: Path) -> dict[str, Path]:
    """The folders of the class folders in ``root``, by `train`, `val` and `test`. InputError if none or two are there.

    `train` is ``root`` itself where it holds the class folders. Without `val` the hold-out is split off the training images,
    without `test` the test images are split off all images.
    """
    if not root.is_dir():
        raise no_folder(root, str(root), "set prepare.path to one that holds train/, or one folder per class")
    splits: dict[str, Path] = {}
    folders = folders_in(root)
    for split, names in NAMES.items():
        there = [name for name in folders if name.lower() in names]
        if len(there) > 1:
            raise InputError(f"{root}: holds {' and '.join(f'{name}/' for name in there)}", f"keep one, as {split}/")
        if there:
            splits[split] = root / there[0]
    if "train" not in splits and splits:
        other = splits.get("test") or splits["val"]
        remedy = f"put the training images there, one folder per class, or set prepare.path to {other} to split its images"
        raise InputError(f"{root / 'train'}: no such folder", remedy)
    if "val" in splits and "test" not in splits:
        splits["test"] = splits.pop("val")
    return splits or {"train": root}


def linked_folders(root: Path) -> list[Path]:
    """The folders of splits and classes in ``root`` that are links. DVC does not look into them."""
    splits = find_splits(root).values()
    folders = [*splits, *(split / name for split in splits for name in folders_in(split))]
    return [folder for folder in folders if folder != root and folder.is_symlink()]


def no_folder(path: Path, name: str, remedy: str) -> InputError:
    """The error of a ``path``, called ``name``, that is no folder. ``remedy`` helps where the path itself tells nothing."""
    if "$" in str(path) or str(path).startswith("~"):
        return InputError(f"{name}: no such folder", "write the whole path, since ~ and variables are not expanded")
    if path.is_file():
        files = f"set prepare.path to a folder of image files ({', '.join(EXTENSIONS)})"
        return InputError(f"{name}: a file, not a folder", files)
    return InputError(f"{name}: no such folder", remedy)


def problems(listing: Listing, endings: tuple[str, ...]) -> Iterator[InputError]:
    """The problems with the classes of ``listing``."""
    train, classes = listing.splits["train"], listing.by_class["train"]
    if len(classes) < 2:
        (name,) = classes
        inside = f"; if its folders are the classes, set prepare.path to {train / name}" if folders_in(train / name) else ""
        yield InputError(f"{train}: holds one class only, {name!r}", f"at least 2 are needed{inside}")
    for split, by_class in listing.by_class.items():
        for name in sorted(by_class.keys() ^ classes.keys(), key=lambda name: (name in classes, name)):
            folder, other = (listing.splits[split], train) if name in by_class else (train, listing.splits[split])
            yield InputError(f"{folder / name}: class {name!r} has no folder in {other}", "add its images there, or remove it")
    for split, by_class in listing.by_class.items():
        for name in (name for name, files in by_class.items() if not files):
            folder = listing.splits[split] / name
            kind, other_endings, dataset = KINDS[endings]
            others_there = files_below(folder, listing.root, other_endings)
            other_kind = f"but {KINDS[other_endings][0]}: set prepare.dataset to {dataset}"
            remedy = other_kind if others_there else "add some, or remove the folder"
            yield InputError(f"{folder}: holds no {kind} ({', '.join(endings)})", remedy)


def folders_in(path: Path) -> list[str]:
    """The names of the folders in ``path``, sorted, without hidden ones. An InputError if ``path`` cannot be read."""
    _, folders, _ = next(walk(path))
    return sorted(folders)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """``folder`` and each folder inside it, with the names of folders and files there, hidden ones left out.

    An InputError names a folder that cannot be read.
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            entries = [entry for entry in os.scandir(parent) if not entry.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{parent}: cannot be read ({error.strerror})", "make it readable, or remove it") from None
        folders = [entry for entry in entries if entry.is_dir()]
        yield parent, [entry.name for entry in folders], [entry.name for entry in entries if not entry.is_dir()]
        waiting += (Path(entry) for entry in folders if not entry.is_symlink())


def files_below(folder: Path, root: Path, endings: tuple[str, ...]) -> list[str]:
    """Files below ``folder`` whose names end so. Hidden files and folders, such as macOS's ``._x.jpg``, are ignored."""
    files: list[str] = []
    for parent, folders, names in walk(folder):
        for name in (*folders, *names):  # of other files too, because DVC reads them all
            if any("\ud800" <= character <= "\udfff" for character in name):  # in place of bytes that are not UTF-8
                raise InputError(f"{parent}: the name {name!a} is not UTF-8", "rename it")
        relative = os.path.relpath(parent, root)
        files += (os.path.join(relative, name) for name in names if name.lower().endswith(endings))
    return sorted(files)
