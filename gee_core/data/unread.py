"""Images in a folder that prepare does not read, for people who expect it to."""

from collections import Counter
from itertools import islice
from pathlib import Path

from gee_core.data.folders import find_layout, folders_in, walk
from gee_core.data.pixels import EXTENSIONS

OTHER_FORMATS = (".tif", ".tiff", ".gif", ".jfif", ".jp2", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".tga", ".dcm", ".npy")
"""Ends of the names of images that are not read."""

MANY = 1000
"""More images in a folder are not counted, as there may be millions."""


def unread(root: Path) -> list[str]:
    """What looks like images in ``root`` but is not read, such as `12 images in eval/`.

    These are images in folders that are no split, in hidden folders beside the class folders, in links to folders below
    them, and in other formats.
    """
    layout = find_layout(root)
    splits = layout.splits.values()
    folders = [path for split in splits for path in sorted(split.glob(".*")) if path.is_dir()]
    if layout.train != root:
        others = (root / name for name in folders_in(root) if root / name not in splits)
        folders += [path for path in others if not _holds(path, root)]
    formats = Counter[str]()
    for folder in (split / name for split in splits for name in folders_in(split)):
        for parent, inside, names in walk(folder):
            links = [path for path in (Path(parent, name) for name in sorted(inside)) if path.is_symlink()]
            folders += [path for path in links if not _holds(path, path.parent)]
            formats.update(end for name in names if (end := Path(name).suffix.lower()) in OTHER_FORMATS)
    found = []
    for folder in folders:
        images = (name for _, _, names in walk(folder) for name in names if name.lower().endswith(EXTENSIONS))
        if n := sum(1 for _ in islice(images, MANY + 1)):
            where, count = f"{folder.relative_to(root)}/", f"{n:,}" if n <= MANY else f"more than {MANY:,}"
            found.append(f"{count} image{'' if n == 1 else 's'} in {where if where.isprintable() else ascii(where)}")
    return found + [f"{n:,} {end}" for end, n in formats.most_common()]


def _holds(link: Path, folder: Path) -> bool:
    """Whether ``link`` leads to a folder that holds ``folder``."""
    return folder.resolve().is_relative_to(link.resolve())
