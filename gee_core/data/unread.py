"""Images in a folder that prepare does not read, for people who expect it to."""

from collections import Counter
from pathlib import Path

from gee_core.data.folders import find_layout, folders_in, walk
from gee_core.data.pixels import EXTENSIONS

OTHER_FORMATS = (".tif", ".tiff", ".gif", ".jfif", ".jp2", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".tga", ".dcm", ".npy")
"""Ends of the names of images that are not read."""


def unread(root: Path) -> list[str]:
    """What looks like images in ``root`` but is not read, such as `12 images in eval/`.

    These are images in folders that are no split, in hidden folders beside the class folders, in links to folders below
    them, and in other formats.
    """
    layout = find_layout(root)
    splits = layout.splits.values()
    folders = [path for split in splits for path in sorted(split.glob(".*")) if path.is_dir()]
    if layout.train != root:
        folders += [root / name for name in folders_in(root) if root / name not in splits]
    formats = Counter[str]()
    for folder in (split / name for split in splits for name in folders_in(split)):
        for parent, inside, names in walk(folder):
            links = [path for path in (Path(parent, name) for name in sorted(inside)) if path.is_symlink()]
            folders += [path for path in links if not path.parent.resolve().is_relative_to(path.resolve())]  # no circles
            formats.update(end for name in names if (end := Path(name).suffix.lower()) in OTHER_FORMATS)
    found = []
    for folder in folders:
        if n := sum(name.lower().endswith(EXTENSIONS) for _, _, names in walk(folder) for name in names):
            where = f"{folder.relative_to(root)}/"
            found.append(f"{n:,} image{'' if n == 1 else 's'} in {where if where.isprintable() else ascii(where)}")
    return found + [f"{n:,} {end}" for end, n in formats.most_common()]
