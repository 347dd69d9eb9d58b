"""The archives as which torchvision's data sets are published, and which of their files are absent or damaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest, md5
from os.path import isdir, isfile  # those of Path raise where a folder cannot be read
from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.config.datasets import DATASETS

if TYPE_CHECKING:  # takes more than a second
    from torchvision.datasets import VisionDataset

OF_FASHION_MNIST = str(DATASETS["fashion_mnist"].folder)
"""Where its files are, below the folder of images."""


@dataclass(frozen=True)
class Archive:
    """An archive and its MD5, and the files in it with theirs, or None where torchvision knows none."""

    path: Path
    md5: str
    files: dict[Path, str | None]

    def whole(self) -> bool:
        """Whether it is there and has its checksum."""
        return isfile(self.path) and _md5(self.path) == self.md5

    def absent(self) -> list[Path]:
        """Its files that are not there."""
        return [file for file in self.files if not isfile(file)]

    def wrong(self) -> list[Path]:
        """Its files that are there with another checksum."""
        return [file for file, known in self.files.items() if known and isfile(file) and _md5(file) != known]

    def unpacked(self) -> bool:
        """Whether all of its files are there and have their checksums."""
        return not self.absent() and not self.wrong()


def archives_of(kind: "type[VisionDataset]", path: Path) -> list[Archive]:
    """The archives of torchvision's class ``kind``, as they would lie in the folder ``path``."""
    if hasattr(kind, "resources"):
        raw = path / OF_FASHION_MNIST
        return [Archive(raw / name, known, {raw / name.removesuffix(".gz"): None}) for name, known in kind.resources]
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return [Archive(path / kind.filename, kind.tgz_md5, {path / kind.base_folder / name: known for name, known in listed})]


def not_there(kind: "type[VisionDataset]", path: Path) -> tuple[str, str]:
    """What of torchvision's class ``kind`` is absent or damaged in ``path``, and the remedy."""
    archives = archives_of(kind, path)
    lacking = [archive for archive in archives if not archive.unpacked()]
    damaged = [archive.path for archive in lacking if isfile(archive.path) and not archive.whole()]
    absent = [file for archive in lacking if not isfile(archive.path) for file in archive.absent()]
    if damaged:
        return in_words(absent, damaged), f"delete {them(damaged)}, then put whole copies there, or go online"
    if 0 < len(absent) < sum(len(archive.files) for archive in archives):
        return in_words(absent, damaged), f"put {them(absent)} there, or go online"
    folder = next(iter(archives[0].files)).parent
    what = f"not found in {folder}"
    for base in (*path.absolute().parents[:2], *sorted(filter(isdir, path.glob("*")))):
        if all(isfile(archive.path) or not archive.absent() for archive in archives_of(kind, base)):
            return what, f"set prepare.path to {base}, where they are, or go online"
    if any(isfile(path / file.name) for archive in archives for file in archive.files):
        return what, f"move the files in {path} to {folder}, or go online"
    into, names = archives[0].path.parent, ", ".join(archive.path.name for archive in archives)
    classes = f", or class folders of images in {path}/train and {path}/test" if into == path else ""
    return what, f"put torchvision's {names} into {into}{classes}, or go online"


def in_words(absent: Sequence[Path], damaged: Sequence[Path]) -> str:
    """Which files are ``absent``, and which ``damaged``; those of either lie in one folder."""
    lacks = f"{absent[0].parent} lacks {_names(absent)}" if absent else ""
    if not damaged:
        return lacks
    holds = f"holds {_names(damaged)} with a wrong checksum"
    if absent and absent[0].parent == damaged[0].parent:
        return f"{lacks} and {holds}"
    return f"{lacks}{', and ' if absent else ''}{damaged[0].parent} {holds}"


def them(files: Sequence[Path]) -> str:
    """The pronoun of ``files`` in a remedy."""
    return "it" if len(files) == 1 else "them"


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, lambda: md5(usedforsecurity=False)).hexdigest()
