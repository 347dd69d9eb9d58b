"""Folders of images or recordings, one folder per class: in train/, val/ and test/, or all in one.

| in the folder | training | hold-out | test |
|---|---|---|---|
| train/, val/, test/ | train/ and val/ | val/ | test/ |
| train/ and test/, or train/ and val/ | train/ | split off train/ | test/ or val/ |
| train/, or class folders alone | what is left of them | split off what is left | split off all |

Links are followed, but for those to folders below a class folder, which could form a cycle; stages that DVC runs refuse
`linked_folders`, because DVC does not look into them.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
class FileList:
    """Image files, relative to their root, and their labels."""

    files: list[str]
    labels: list[int]

    def subset(self, indices: Iterable[int]) -> "FileList":
        """The files at ``indices``."""
        indices = [int(i) for i in indices]
        return FileList([self.files[i] for i in indices], [self.labels[i] for i in indices])

    def without(self, indices: Iterable[int]) -> "FileList":
        """All files but those at ``indices``."""
        return self.subset(sorted(set(range(len(self.files))).difference(map(int, indices))))


@dataclass(frozen=True)
class Layout:
    """Where the splits of an image folder are; each holds a folder per class."""

    root: Path
    train: Path
    """The root itself where it holds the class folders."""
    val: Path | None
    """The hold-out, which is split off the training images where this is None."""
    test: Path | None
    """The test images, which are split off all images where this is None."""
    endings: tuple[str, ...]
    """Ends of the names of the files that are read."""

    @property
    def splits(self) -> dict[str, Path]:
        """The folders that are there, by `train`, `val` and `test`."""
        return {name: path for name in NAMES if (path := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Listing:
    """The files of an image folder. Classes are its sorted folder names."""

    class_names: tuple[str, ...]
    train: FileList
    val: FileList | None
    test: FileList | None


def endings_of(events: Events | None) -> tuple[str, ...]:
    """Ends of the names of the files that are read: of images, or with ``events`` of recordings."""
    return EXTENSIONS if events is None else RECORDINGS


def is_in_files(cfg: PrepareConfig) -> bool:
    """Whether the images are files in class folders of `path`; of those that torchvision may have, the disk says it."""
    return cfg.known is None or cfg.events is not None or (cfg.known.class_folders and Path(cfg.path, "train").is_dir())


def list_images(root: Path, endings: tuple[str, ...] = EXTENSIONS) -> Listing:
    """Every image below ``root``, by split, class and name; an InputError names the first problem. Nothing is opened."""
    layout = find_layout(root, endings)
    found = {name: files_by_class(path, root, endings) for name, path in layout.splits.items()}
    for problem in problems(layout, found):
        raise problem
    return listing_of(found)


def find_layout(root: Path, endings: tuple[str, ...] = EXTENSIONS) -> Layout:
    """Where the splits in ``root`` are, by the table at the head of this file; an InputError if they are nowhere, or twice."""
    if not root.is_dir():
        raise no_folder(root, str(root), "set `path` to one that holds train/, or one folder per class")
    found: dict[str, Path | None] = dict.fromkeys(NAMES)
    folders = folders_in(root)
    for split, names in NAMES.items():
        there = [name for name in folders if name.lower() in names]
        if len(there) > 1:
            raise InputError(f"{root}: holds {' and '.join(f'{name}/' for name in there)}", f"keep one, as {split}/")
        found[split] = root / there[0] if there else None
    train, val, test = found.values()
    if train is None and (other := test or val):
        remedy = f"put the training images there, one folder per class, or set `path` to {other} to split its images"
        raise InputError(f"{root / 'train'}: no such folder", remedy)
    if test is None:
        val, test = None, val
    return Layout(root, train or root, val, test, endings)


def linked_folders(layout: Layout) -> list[Path]:
    """The folders of splits and classes that are links; the root, which may be one too, is not among them."""
    folders = list(layout.splits.values())
    folders += [split / name for split in layout.splits.values() for name in folders_in(split)]
    return [folder for folder in folders if folder != layout.root and folder.is_symlink()]


def no_folder(path: Path, what: str, remedy: str) -> InputError:
    """The error of a ``path`` that is no folder; ``what`` names it, and ``remedy`` helps where its name tells nothing."""
    if "$" in str(path) or str(path).startswith("~"):
        return InputError(f"{what}: no such folder", "write the whole path, since ~ and variables are not expanded")
    if path.is_file():
        return InputError(f"{what}: a file, not a folder", f"set `path` to a folder of image files ({', '.join(EXTENSIONS)})")
    return InputError(f"{what}: no such folder", remedy)


def files_by_class(split: Path, root: Path, endings: tuple[str, ...] = EXTENSIONS) -> ByClass:
    """The image files in the class folders of ``split``, sorted; InputError where there are none, or a name is no text."""
    names = folders_in(split)
    if not names:
        raise InputError(f"{split}: holds no class folders", "make one folder per class and put its images there")
    for name in names:
        if not name.isprintable():  # control characters, and bytes that are not UTF-8
            raise InputError(f"{split}: the class folder {name!a} has unprintable characters in its name", "rename it")
    return {name: _files_below(split / name, root, endings) for name in names}


def problems(layout: Layout, found: dict[str, ByClass]) -> Iterator[InputError]:
    """What is wrong with the classes ``found`` in the splits of ``layout``."""
    train, in_train = layout.train, found["train"]
    if len(in_train) < 2:
        (name,) = in_train
        inside = f"; if its folders are the classes, set `path` to {train / name}" if folders_in(train / name) else ""
        yield InputError(f"{train}: holds one class only, {name!r}", f"at least 2 are needed{inside}")
    for split, where, images in (("test", layout.test, "test images"), ("val", layout.val, "images for the hold-out")):
        in_split = in_train if where is None else found[split]
        for name in (name for name in in_split if name not in in_train):
            remedy = "add its training images, or remove it"
            yield InputError(f"{layout.splits[split] / name}: class {name!r} has no folder in {train}", remedy)
        for name in (name for name in in_train if name not in in_split):
            yield InputError(f"{train / name}: class {name!r} has no folder in {where}", f"add its {images}, or remove it")
    for split, by_class in found.items():
        for name, files in by_class.items():
            if not files:
                kind, others, dataset = KINDS[layout.endings]
                problem = f"{layout.splits[split] / name}: holds no {kind} ({', '.join(layout.endings)})"
                of_others = _files_below(layout.splits[split] / name, layout.root, others)
                what = f"but {KINDS[others][0]}: set `dataset` to {dataset}" if of_others else "add some, or remove the folder"
                yield InputError(problem, what)


def listing_of(found: dict[str, ByClass]) -> Listing:
    """The files ``found`` in the splits, which have no `problems`."""
    lists: dict[str, FileList] = {}
    for name, by_class in found.items():
        labelled = [(file, label) for label, files in enumerate(by_class.values()) for file in files]
        lists[name] = FileList([file for file, _ in labelled], [label for _, label in labelled])
    return Listing(tuple(found["train"]), lists["train"], lists.get("val"), lists.get("test"))


def unread(root: Path) -> list[str]:
    """What looks like images in ``root`` but is not read, such as `12 images in eval/`: other folders, and other formats."""
    layout, found = find_layout(root), []
    for folder in () if layout.train == root else (root / name for name in folders_in(root)):
        if folder not in layout.splits.values() and (n := len(_files_below(folder, root, EXTENSIONS))):
            found.append(f"{n:,} image{'' if n == 1 else 's'} in {folder.name}/")
    ends = (Path(name).suffix.lower() for split in layout.splits.values() for _, _, names in walk(split) for name in names)
    formats = Counter(end for end in ends if end in OTHER_FORMATS)
    return found + [f"{n:,} {end}" for end, n in formats.most_common()]


def folders_in(path: Path) -> list[str]:
    """The names of the folders in ``path``, sorted, without hidden ones; an InputError if ``path`` cannot be read."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def walk(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """``folder`` and each folder inside it, with the names of folders and files there, hidden ones left out."""
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield parent, folders, [name for name in names if not name.startswith(".")]


def _files_below(folder: Path, root: Path, endings: tuple[str, ...]) -> list[str]:
    """Files below ``folder`` whose names end so; hidden files and folders, such as macOS's ``._x.jpg``, are ignored."""
    found: list[str] = []

    def fail(error: OSError) -> None:
        raise _unreadable(error)

    for parent, folders, names in walk(folder, fail):
        for name in (*folders, *names):  # of other files too, because DVC reads them all
            if any("\ud800" <= character <= "\udfff" for character in name):  # in place of bytes that are not UTF-8
                raise InputError(f"{parent}: the name {name!a} is not UTF-8", "rename it")
        relative = os.path.relpath(parent, root)
        found += (os.path.join(relative, name) for name in names if name.lower().endswith(endings))
    return sorted(found)


def _unreadable(error: OSError) -> InputError:
    return InputError(f"{error.filename}: cannot be read ({error.strerror})", "make it readable, or remove it")
