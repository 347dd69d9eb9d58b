"""What prepare would read from a folder of images, and what would stop it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch

from gee_core.config import PrepareConfig
from gee_core.data.folders import RECORDINGS, Listing, list_all, problems, unread, walk
from gee_core.data.frames import EventList
from gee_core.data.image_files import Form, Header, decode_image, each_file, header, mixed_depths
from gee_core.data.images import one_colour
from gee_core.data.pixels import EXTENSIONS
from gee_core.data.recordings import read_recording
from gee_core.data.splits import split_files, split_off
from gee_core.errors import InputError
from pipelines.project.watched_files import check_links
from pipelines.runtime.input_errors import with_keys

SIZES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
"""Sides in pixels that are proposed for photographs; a larger one costs time and rarely pays."""
IN_MEMORY = 0.4
"""Share of this machine's memory above which streaming is proposed."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, the number of files done so far and of all."""
Seen = tuple[Header, bytes | None]
"""The head of an image, and its colour where it was decoded and shows no other."""


@dataclass
class Survey:
    """A folder of images, as `gee data check --json` prints it. Images have their names below the folder."""

    path: str
    splits: dict[str, str] = field(default_factory=dict)
    """Where the training images, the hold-out and the test images come from."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Images by split and class: as prepare would split them, or as they lie there if it could not."""
    sizes: dict[str, str] = field(default_factory=dict)
    """`smallest, median, largest`: such as 32x24; the median of the shorter sides."""
    n_sizes: int = 0
    modes: dict[str, int] = field(default_factory=dict)
    """Images by Pillow's name of how a pixel is stored."""
    in_channels: int = 3
    ignored: dict[str, int] = field(default_factory=dict)
    """Other files by the end of their names."""
    unread: list[str] = field(default_factory=list)
    """Folders of images that are not read, such as `12 images in eval/`."""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """Test images that are also training images, byte for byte."""
    tiny: list[str] = field(default_factory=list)
    """Images that would be enlarged to more than twice their size."""
    one_colour: list[str] = field(default_factory=list)
    recordings: dict[str, str] = field(default_factory=dict)
    """Of a folder of recordings: their `events`, `durations` and `sensor`."""
    params: dict[str, Any] = field(default_factory=dict)
    """The section `prepare` of params.yaml for these images."""
    problems: list[str] = field(default_factory=list)
    """Each would stop prepare."""


def survey(cfg: PrepareConfig, image_size: int | None, decode_all: bool, on_progress: Progress) -> Survey:
    """Look at the folder `prepare.path`: list it, and read the header of every image, or decode it.

    ``image_size`` is the one to check for; None proposes one. Raises an InputError where the folder has no classes to look at.
    """
    root, found = Path(cfg.path), Survey(cfg.path)
    endings = Counter(Path(name).suffix.lower() or name for _, _, names in walk(root) for name in names)
    of_events = endings.keys() & set(RECORDINGS) and not endings.keys() & set(EXTENSIONS)
    read = RECORDINGS if of_events else EXTENSIONS
    listing = list_all(root, read)
    found.problems = [with_keys(problem) for problem in problems(listing, read)]
    ignored = {end: count for end, count in endings.items() if not end.endswith(read)}
    found.ignored = dict(sorted(ignored.items(), key=lambda item: (-item[1], item[0])))
    found.unread = unread(root)
    train, test = _split(found, cfg, listing)
    files = listing.all_files
    if of_events:
        found.duplicates = _duplicates(root, train, test, on_progress)
        return _look_at_recordings(found, cfg, root, files, on_progress)
    seen: dict[str, Seen] = {}
    for name, looked in _each(partial(_look, decode_all), root, files, "decode" if decode_all else "headers", on_progress):
        if isinstance(looked, InputError):
            found.problems.append(with_keys(looked))
        else:
            seen[name] = looked
    found.one_colour = [name for name, (_, colour) in seen.items() if colour is not None]
    if set(train) <= set(found.one_colour) and len({seen[name][1] for name in train}) == 1:
        found.problems.append(with_keys(one_colour(cfg.path)))
    headers = {name: head for name, (head, _) in seen.items()}
    if problem := mixed_depths(root, headers):
        found.problems.append(with_keys(problem))
    if headers:
        _describe(found, cfg, image_size, headers)
    train, test = ([name for name in part if name in headers] for part in (train, test))
    found.duplicates = _duplicates(root, train, test, on_progress)
    if not found.problems:
        try:
            check_links(cfg)
        except InputError as problem:
            found.problems.append(with_keys(problem))
    return found


def _split(found: Survey, cfg: PrepareConfig, listing: Listing) -> tuple[list[str], list[str]]:
    """Fill in ``splits`` and ``counts``; the training and test images, none where they cannot be split."""
    folders = {split: f"{path.name}/" for split, path in listing.splits.items()}
    train = "class folders" if listing.splits["train"] == listing.root else folders["train"]
    share = f"{100 * cfg.test_share:g} % of all (prepare.test_share)"
    holdout_share = f"{100 * cfg.holdout:g} % of {train if 'test' in folders else 'the rest'} (prepare.holdout)"
    found.splits = {
        "train": train,
        "hold-out": folders.get("val", holdout_share),
        "test": folders.get("test", share),
    }
    found.counts = {name: {cls: len(files) for cls, files in each.items()} for name, each in listing.by_class.items()}
    if found.problems:
        return [], []
    try:
        train_files, holdout, test_files = split_files(listing, cfg)
        if holdout is None:
            labels = torch.tensor(train_files.labels)
            holdout = split_off(labels, cfg.holdout, cfg.split_seed, listing.class_names, "holdout")
    except InputError as problem:
        found.problems.append(with_keys(problem))
        return [], []
    indices = holdout.tolist()
    parts = {"train": train_files.without(indices), "hold-out": train_files.subset(indices), "test": test_files}
    names = listing.class_names
    found.counts = {
        split: dict(zip(names, np.bincount(part.labels, minlength=len(names)).tolist(), strict=True))
        for split, part in parts.items()
    }
    return train_files.files, test_files.files


def _look(decode_all: bool, path: Path) -> Seen:
    head, colour = header(path), None
    if decode_all:
        pixels_CHW = decode_image(path, Form(min(head.width, head.height, 32), 3))  # it may show nothing else
        corner_C = pixels_CHW[:, 0, 0]
        colour = corner_C.tobytes() if (pixels_CHW == corner_C[:, None, None]).all() else None
    return head, colour


def _describe(found: Survey, cfg: PrepareConfig, image_size: int | None, headers: dict[str, Header]) -> None:
    """Fill in what the headers say, and the params that fit it."""
    by_area = sorted(headers.values(), key=lambda seen: (seen.width * seen.height, seen))
    short = {name: min(seen.width, seen.height) for name, seen in headers.items()}
    middle = median_low(short.values())
    found.sizes = {"smallest": by_area[0].size, "median": str(middle), "largest": by_area[-1].size}
    found.n_sizes = len({seen.size for seen in by_area})
    found.modes = dict(Counter(seen.mode for seen in by_area).most_common())
    found.in_channels = 1 if all(seen.is_grey for seen in by_area) else 3
    is_uniform = found.n_sizes == 1 and by_area[0].width == by_area[0].height and 4 <= middle <= SIZES[-1]
    if image_size is None and not is_uniform:
        image_size = max((side for side in SIZES if side <= middle), default=max(middle, 4))
    side = image_size or middle
    found.tiny = [name for name, pixels in short.items() if 2 * pixels < side]
    found.params = {"dataset": "folder", "path": cfg.path, "name": cfg.data_name, "image_size": image_size}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if len(headers) * found.in_channels * side**2 > IN_MEMORY * memory:
        found.params |= {"image_size": side, "stream": True}


def _look_at_recordings(found: Survey, cfg: PrepareConfig, root: Path, files: list[str], on_progress: Progress) -> Survey:
    """Read every recording; fill in what they hold, and the params that fit them."""
    looked = [seen for _, seen in _each(_recorded, root, files, "recordings", on_progress)]
    found.problems += [with_keys(seen) for seen in looked if isinstance(seen, InputError)]
    if seen := [each for each in looked if not isinstance(each, InputError)]:
        n, durations, widths, heights, frames = ([*values] for values in zip(*seen, strict=True))
        width, height, T = max(widths), max(heights), max(frames)
        found.recordings = {"events": f"{min(n):,} to {max(n):,}, the median is {median_low(n):,}"}
        found.recordings["frames" if T else "durations"] = str(T) if T else f"{min(durations):g} to {max(durations):g}"
        found.recordings["sensor"] = f"{width} x {height} pixels{'' if T else ', by the events'}"
        events = {"frames": T or 4, "split_by": "number", "clip": 255 if T else 15, "sensor": [width, height]}
        size = None if width == height else min(width, height)
        found.params = {"dataset": "events", "path": cfg.path, "name": cfg.data_name, "image_size": size, "events": events}
    return found


def _recorded(path: Path) -> tuple[int, float, int, int, int]:
    """Events of a recording, duration in its own unit, width and height of the sensor, and T of its frames, else 0."""
    read = read_recording(path)
    if isinstance(read, EventList):
        return len(read.t), float(read.t[-1] - read.t[0]), int(read.x.max()) + 1, int(read.y.max()) + 1, 0
    return int(read.sum()), 0.0, read.shape[3], read.shape[2], len(read)


def _duplicates(root: Path, train: Sequence[str], test: Sequence[str], on_progress: Progress) -> list[tuple[str, str]]:
    """Pairs of a test image and a training image with the same bytes; only files of equal length are read."""
    length = {name: (root / name).stat().st_size for name in [*train, *test]}
    lengths = {length[name] for name in train} & {length[name] for name in test}
    files = [name for name in length if length[name] in lengths]
    digests = dict(_each(_digest, root, files, "duplicates", on_progress))
    of_train = {digests[name]: name for name in reversed(train) if name in digests}
    return [(name, of_train[digests[name]]) for name in test if digests.get(name) in of_train]


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _each(
    look: Callable[[Path], Any], root: Path, files: Sequence[str], what: str, on_progress: Progress
) -> Iterator[tuple[str, Any]]:
    """Each of the ``files``, and ``look`` of it, or the InputError that it raises."""
    for done, seen in enumerate(each_file(look, root, files), 1):
        yield seen
        on_progress(what, done, len(files))
