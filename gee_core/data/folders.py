"""Folders of images, one folder per class: in train/, val/ and test/, or all in one.

| in the folder | training | hold-out | test |
|---|---|---|---|
| train/, val/, test/ | train/ and val/ | val/ | test/ |
| train/ and test/, or train/ and val/ | train/ | split off train/ | test/ or val/ |
| train/, or class folders alone | what is left of them | split off what is left | split off all |

`training`, `valid` or `validation`, and `testing` mean the same, in upper or lower case.

The root, the folders of splits and classes, and the image files may be links, also to places outside; stages that DVC runs
refuse `linked_folders`, because DVC does not look into them. Links to folders below a class folder are not followed, because
they could form a cycle. What a link leads to has to be an image.
"""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from gee_core.config.datasets import DATASETS
from gee_core.data.pixels import EXTENSIONS
from gee_core.errors import InputError

NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What the folder of each split may be called."""

ARCHIVES = (".npz", ".npy", ".h5", ".hdf5", ".mat", ".zip", ".tar", ".gz", ".tgz", ".csv", ".parquet", ".tfrecord")
"""Ends of the names of files that may hold many images."""

NOT_READ = "files that hold many are not read"
"""Of `ARCHIVES`."""

OF_TORCHVISION = {known.folder: name for name, known in DATASETS.items() if known.folder}
"""Folders in which torchvision keeps files that are no images, and the `prepare.dataset` that reads them."""

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
        dropped = {int(i) for i in indices}
        return self.subset(i for i in range(len(self.files)) if i not in dropped)


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


def list_images(root: Path) -> Listing:
    """Every image below ``root``, by split, class and name; nothing is opened.

    Raises:
        InputError: a folder is missing or empty, there are fewer than two classes, or the splits differ in them.
    """
    layout = find_layout(root)
    found = {name: files_by_class(path, root) for name, path in layout.splits.items()}
    for problem in problems(layout, found):
        raise problem
    return listing_of(found)


def find_layout(root: Path) -> Layout:
    """Where the splits in ``root`` are, by the table at the head of this file.

    Raises:
        InputError: there is no such folder, or one has test images alone, torchvision's files, two folders of one meaning, a
            link to nothing in place of one, or a class with the name of a split.
    """
    if not root.is_dir():
        raise no_folder(root, str(root), "set prepare.path to one that holds train/, or one folder per class")
    found: dict[str, Path | None] = dict.fromkeys(NAMES)
    folders = folders_in(root)
    for split, names in NAMES.items():
        there = [name for name in folders if name.lower() in names]
        if len(there) > 1:
            raise InputError(f"{root}: holds {' and '.join(f'{name}/' for name in there)}", f"keep one, as {split}/")
        found[split] = root / there[0] if there else None
    _check_links(root, [name for names in NAMES.values() for name in names])
    there_are_classes = any(folders_in(path) for path in found.values() if path)
    for path in () if there_are_classes else filter(None, found.values()):
        others = (root / name for name in folders if root / name not in found.values()) if _is_class(path) else ()
        if other := next(filter(_is_class, others), None):
            problem = f"{path}: is read as the folder of a split, but holds images as the class folder {other.name}/ beside it"
            raise InputError(problem, "rename the class, or put all class folders into a new folder train/")
    train, val, test = found.values()
    if train is None and (other := test or val):
        remedy = f"put the training images there, one folder per class, or set prepare.path to {other} to split its images"
        raise InputError(f"{root / 'train'}: no such folder", remedy)
    for base in (root, root.parent, root.parent.parent) if train is None else ():
        for folder, dataset in OF_TORCHVISION.items():
            if (base / folder).is_dir() and (base / folder).is_relative_to(root):
                remedy = f"set prepare.dataset to {dataset} and prepare.path to {base}"
                raise InputError(f"{root}: holds torchvision's files of {dataset}, no folders of images", remedy)
    if test is None:
        val, test = None, val
    return Layout(root, train or root, val, test)


def linked_folders(layout: Layout) -> list[Path]:
    """The folders of splits and classes that are links; the root, which may be one too, is not among them.

    Raises:
        InputError: a folder cannot be read.
    """
    folders = list(layout.splits.values())
    folders += [split / name for split in layout.splits.values() for name in folders_in(split)]
    return [folder for folder in folders if folder != layout.root and folder.is_symlink()]


def no_folder(path: Path, what: str, remedy: str) -> InputError:
    """The error of a ``path`` that is no folder; ``what`` names it, and ``remedy`` helps where its name tells nothing."""
    if "$" in str(path) or str(path).startswith("~"):
        return InputError(f"{what}: no such folder", "write the whole path, since ~ and variables are not expanded")
    if path.is_file() or path.suffix.lower() in ARCHIVES:
        formats = f"set prepare.path to a folder of image files ({', '.join(EXTENSIONS)}); {NOT_READ}"
        return InputError(f"{what}: {'a file, not a folder' if path.is_file() else 'no such folder'}", formats)
    return InputError(f"{what}: no such folder", remedy)


def files_by_class(split: Path, root: Path) -> ByClass:
    """The image files in the class folders of ``split``, in sorted order; classes without any are among them.

    Raises:
        InputError: it holds no class folders, one cannot be read, is a link to nothing, or has an unprintable name; the name of
            a file or folder below one is not UTF-8.
    """
    names = folders_in(split)
    _check_links(split)
    if not names:
        remedy = f"make one folder per class and put its images there{_of_archives(split)}"
        raise InputError(f"{split}: holds no class folders", remedy)
    for name in names:
        if not name.isprintable():  # control characters, and bytes that are not UTF-8
            raise InputError(f"{split}: the class folder {name!a} has unprintable characters in its name", "rename it")
    return {name: _images_below(split / name, root) for name in names}


def problems(layout: Layout, found: dict[str, ByClass]) -> Iterator[InputError]:
    """What is wrong with the classes ``found`` in the splits of ``layout``."""
    train, in_train = layout.train, found["train"]
    if len(in_train) < 2:
        (name,) = in_train
        inside = f"; if its folders are the classes, set prepare.path to {train / name}" if folders_in(train / name) else ""
        yield InputError(f"{train}: holds one class only, {name!r}", f"at least 2 are needed{inside}")
    for split, where in (("test", layout.test), ("val", layout.val)):
        if where is None:
            continue
        alike = _alike(found[split], in_train)
        for name, twin in alike.items():
            problem = f"{where / name}: class {name!a} looks like {twin!a} in {train}, whose accents are stored in another way"
            yield InputError(problem, "give both folders the same name, copied from one of them")
        for name in found[split]:
            if name not in in_train and name not in alike:
                yield InputError(
                    f"{where / name}: class {name!r} has no folder in {train}", "add its training images, or remove it"
                )
        for name in in_train:
            if name not in found[split] and name not in alike.values():
                images = {"test": "test images", "val": "images for the hold-out"}[split]
                yield InputError(f"{train / name}: class {name!r} has no folder in {where}", f"add its {images}, or remove it")
    for first, second in combinations(layout.splits, 2):
        one, other = layout.splits[first], layout.splits[second]
        pairs = [(one, other), *((one / name, other / name) for name in found[first] if name in found[second])]
        if same := next((pair for pair in pairs if pair[0].samefile(pair[1])), None):
            yield InputError(f"{same[1]}: is the same folder as {same[0]}", "put other images there, or remove it")
    for split, by_class in found.items():
        for name, files in by_class.items():
            if not files:
                where = layout.splits[split] / name
                remedy = f"add some, or remove the folder{_of_archives(where)}"
                yield InputError(f"{where}: holds no images ({', '.join(EXTENSIONS)})", remedy)


def listing_of(found: dict[str, ByClass]) -> Listing:
    """The files ``found`` in the splits, which have no `problems`."""
    lists = {name: _in_one(by_class) for name, by_class in found.items()}
    return Listing(tuple(found["train"]), lists["train"], lists.get("val"), lists.get("test"))


def folders_in(path: Path) -> list[str]:
    """The names of the folders in ``path``, sorted, without hidden ones.

    Raises:
        InputError: ``path`` cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def walk(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """``folder`` and each folder inside it, with the names of folders and files there, hidden ones left out."""
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield parent, folders, [name for name in names if not name.startswith(".")]


def _check_links(folder: Path, names: Iterable[str] = ()) -> None:
    """Refuse links to nothing in ``folder``: those that have one of ``names``, in any case, or if none are given, no suffix, as
    files have it. Hidden ones are ignored.
    """
    for path in sorted(path for path in folder.iterdir() if path.is_symlink() and not path.name.startswith(".")):
        if not path.exists() and (path.name.lower() in names if names else not path.suffix):
            remedy = "make that available (is a drive not mounted?), or remove the link"
            raise InputError(f"{path}: a link to {os.readlink(path)}, which is not there", remedy)


def _alike(names: Iterable[str], others: Collection[str]) -> dict[str, str]:
    """Those of ``names`` that ``others`` hold with accents stored in another way only, as macOS does it, and the name there."""
    there = {unicodedata.normalize("NFC", other): other for other in others}
    found = {name: there.get(unicodedata.normalize("NFC", name)) for name in names if name not in others}
    return {name: other for name, other in found.items() if other is not None}


def _of_archives(folder: Path) -> str:
    """What a remedy adds where there are `ARCHIVES` in ``folder``, or below it."""
    return f"; {NOT_READ}" if any(name.lower().endswith(ARCHIVES) for _, _, names in walk(folder) for name in names) else ""


def _is_class(folder: Path) -> bool:
    """Whether there are images in ``folder``, and no folders."""
    return not folders_in(folder) and any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir())


def _in_one(by_class: ByClass) -> FileList:
    files = [file for found in by_class.values() for file in found]
    return FileList(files, [label for label, found in enumerate(by_class.values()) for _ in found])


def _images_below(folder: Path, root: Path) -> list[str]:
    """Images in ``folder`` and the folders inside it; hidden files and folders, such as macOS's ``._x.jpg``, are ignored."""
    found: list[str] = []

    def fail(error: OSError) -> None:
        raise _unreadable(error)

    for parent, folders, names in walk(folder, fail):
        for name in (*folders, *names):  # of other files too, because DVC reads them all
            if not name.isascii() and not _is_utf8(name):
                raise InputError(f"{parent}: the name {name!a} is not UTF-8", "rename it")
        relative = os.path.relpath(parent, root)
        found += (os.path.join(relative, name) for name in names if name.lower().endswith(EXTENSIONS))
    return sorted(found)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)  # in place of bytes that are not


def _unreadable(error: OSError) -> InputError:
    return InputError(f"{error.filename}: cannot be read ({error.strerror})", "make it readable, or remove it")
