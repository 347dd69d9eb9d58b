"""A dry run of prepare on a folder of images: its functions list, split and read the files, and each problem is kept."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

import torch

from gee_core.config import PrepareConfig
from gee_core.data import folders
from gee_core.data.folders import RECORDINGS, FileList, Listing
from gee_core.data.frames import EventList
from gee_core.data.image_files import Form, Header, decode_image, each_file, header, mixed_depths
from gee_core.data.images import one_colour
from gee_core.data.pixels import EXTENSIONS
from gee_core.data.recordings import read_recording
from gee_core.data.splits import split_files, split_off
from gee_core.errors import InputError
from gee_core.storage.atomic_files import sha256
from pipelines.project.watched_files import check_links
from pipelines.runtime.input_errors import known_message
from pipelines.runtime.progress import Steps

SIZES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
"""Sides in pixels that are proposed for photographs. A larger side costs time and rarely pays."""
IN_MEMORY = 0.4
"""Share of this machine's memory above which streaming is proposed."""

Seen = TypeVar("Seen")


@dataclass
class Survey:
    """A folder of images, as `gee data check --json` prints it. Images have their names below the folder."""

    path: str
    splits: dict[str, str] = field(default_factory=dict)
    """Where the training images, the hold-out and the test images come from."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Images by split and class: as prepare would split them, or as they lie there if it could not."""
    sizes: dict[str, str] = field(default_factory=dict)
    """`smallest` and `largest`, such as 32x24, and the `median` of the shorter sides."""
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


def survey(cfg: PrepareConfig, image_size: int | None, decode: bool, steps: Steps) -> Survey:
    """Look at the folder `prepare.path` as prepare would: list it, and read the header of every image, or ``decode`` it.

    ``image_size`` is the size to check for. None proposes a size. Raises InputError where the folder has no classes.
    """
    root, result = Path(cfg.path), Survey(cfg.path)
    ends = Counter(Path(name).suffix.lower() or name for _, _, names in folders.walk(root) for name in names)
    is_events = ends.keys() & set(RECORDINGS) and not ends.keys() & set(EXTENSIONS)
    endings = RECORDINGS if is_events else EXTENSIONS
    listing = folders.list_all(root, endings)
    problems = list(folders.problems(listing, endings))
    ignored = {end: count for end, count in ends.items() if not end.endswith(endings)}
    result.ignored = dict(sorted(ignored.items(), key=lambda item: (-item[1], item[0])))
    result.unread, result.splits = folders.unread(root), _origins(listing, cfg)
    result.counts = {split: {name: len(files) for name, files in names.items()} for split, names in listing.by_class.items()}
    parts: dict[str, FileList] = {}
    if not problems:
        try:
            parts = _parts(listing, cfg)
            result.counts = {split: _by_class(part, listing.class_names) for split, part in parts.items()}
        except InputError as problem:
            problems.append(problem)
    look: Callable[[Path], Any] = _look_at_recording if is_events else partial(_look_at_image, decode)
    note = "recordings" if is_events else "decode" if decode else "headers"
    looks = _read_all(look, root, listing.all_files, note, problems, steps)
    train, holdout, test = ([name for name in part.files if name in looks] for part in parts.values()) if parts else ([],) * 3
    if is_events:
        _describe_recordings(result, cfg, looks)
    else:
        problems += _describe_images(result, cfg, image_size, looks, [*train, *holdout])
    result.duplicates = _duplicates(root, [*train, *holdout], test, problems, steps)
    if not problems:
        try:
            check_links(cfg)
        except InputError as problem:
            problems.append(problem)
    result.problems = [known_message(problem) or str(problem) for problem in problems]
    return result


def _origins(listing: Listing, cfg: PrepareConfig) -> dict[str, str]:
    """Where the images of each split come from."""
    names = {split: f"{path.name}/" for split, path in listing.splits.items()}
    train = "class folders" if listing.splits["train"] == listing.root else names["train"]
    rest = train if "test" in names else "the rest"
    return {
        "train": train,
        "hold-out": names.get("val", f"{100 * cfg.holdout:g} % of {rest} (prepare.holdout)"),
        "test": names.get("test", f"{100 * cfg.test_share:g} % of all (prepare.test_share)"),
    }


def _parts(listing: Listing, cfg: PrepareConfig) -> dict[str, FileList]:
    """The files of each split, as prepare splits them. InputError where it could not."""
    train, holdout, test = split_files(listing, cfg)
    if holdout is None:
        holdout = split_off(torch.tensor(train.labels), cfg.holdout, cfg.split_seed, listing.class_names, "holdout")
    indices = holdout.tolist()
    return {"train": train.without(indices), "hold-out": train.subset(indices), "test": test}


def _by_class(part: FileList, class_names: Sequence[str]) -> dict[str, int]:
    counts = Counter(part.labels)
    return {name: counts[label] for label, name in enumerate(class_names)}


def _read_all(
    look: Callable[[Path], Seen], root: Path, files: Sequence[str], note: str, problems: list[InputError], steps: Steps
) -> dict[str, Seen]:
    """The result of ``look`` for each of the ``files`` that can be read. The others add their errors to ``problems``."""
    looks: dict[str, Seen] = {}
    for done, (name, seen) in enumerate(each_file(look, root, files), 1):
        if isinstance(seen, InputError):
            problems.append(seen)
        else:
            looks[name] = seen
        steps.at(done, note, len(files))
    return looks


def _look_at_image(decode: bool, path: Path) -> tuple[Header, bytes | None]:
    """The header of an image, and its colour where it is decoded and shows no other."""
    head, colour = header(path), None
    if decode:
        pixels_CHW = decode_image(path, Form(min(head.width, head.height, 32), 3))
        corner_C = pixels_CHW[:, 0, 0]
        colour = corner_C.tobytes() if (pixels_CHW == corner_C[:, None, None]).all() else None
    return head, colour


def _look_at_recording(path: Path) -> tuple[int, float, int, int, int]:
    """Events of a recording, duration in its own unit, width and height of the sensor, and T of its frames, else 0."""
    recording = read_recording(path)
    if isinstance(recording, EventList):
        t, x, y, _ = recording
        return len(t), float(t[-1] - t[0]), int(x.max()) + 1, int(y.max()) + 1, 0
    return int(recording.sum()), 0.0, recording.shape[3], recording.shape[2], len(recording)


def _describe_images(
    result: Survey,
    cfg: PrepareConfig,
    image_size: int | None,
    looks: dict[str, tuple[Header, bytes | None]],
    train: Sequence[str],
) -> list[InputError]:
    """Fill in sizes, modes and colours of the images, and the params that fit. Returns the problems of all images together."""
    result.one_colour = [name for name, (_, colour) in looks.items() if colour is not None]
    headers = {name: head for name, (head, _) in looks.items()}
    problems = []
    if set(train) <= set(result.one_colour) and len({looks[name][1] for name in train}) == 1:
        problems.append(one_colour(cfg.path))
    if mixed := mixed_depths(Path(cfg.path), headers):
        problems.append(mixed)
    if not headers:
        return problems
    by_area = sorted(headers.values(), key=lambda head: (head.width * head.height, head))
    short = {name: min(head.width, head.height) for name, head in headers.items()}
    middle = median_low(short.values())
    result.sizes = {"smallest": by_area[0].size, "median": str(middle), "largest": by_area[-1].size}
    result.n_sizes = len({head.size for head in by_area})
    result.modes = dict(Counter(head.mode for head in by_area).most_common())
    result.in_channels = 1 if all(head.is_grey for head in by_area) else 3
    is_uniform = result.n_sizes == 1 and by_area[0].width == by_area[0].height and 4 <= middle <= SIZES[-1]
    if image_size is None and not is_uniform:
        image_size = max((side for side in SIZES if side <= middle), default=max(middle, 4))
    side = image_size or middle
    result.tiny = [name for name, pixels in short.items() if 2 * pixels < side]
    result.params = {"dataset": "folder", "path": cfg.path, "name": cfg.data_name, "image_size": image_size}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if len(headers) * result.in_channels * side**2 > IN_MEMORY * memory:
        result.params |= {"image_size": side, "stream": True}
    return problems


def _describe_recordings(result: Survey, cfg: PrepareConfig, looks: dict[str, tuple[int, float, int, int, int]]) -> None:
    """Fill in events, durations and sensor of the recordings, and the params that fit."""
    if not looks:
        return
    n, durations, widths, heights, frames = ([*values] for values in zip(*looks.values(), strict=True))
    width, height, T = max(widths), max(heights), max(frames)
    result.recordings = {"events": f"{min(n):,} to {max(n):,}, the median is {median_low(n):,}"}
    result.recordings["frames" if T else "durations"] = str(T) if T else f"{min(durations):g} to {max(durations):g}"
    result.recordings["sensor"] = f"{width} x {height} pixels{'' if T else ', by the events'}"
    events = {"frames": T or 4, "split_by": "number", "clip": 255 if T else 15, "sensor": [width, height]}
    size = None if width == height else min(width, height)
    result.params = {"dataset": "events", "path": cfg.path, "name": cfg.data_name, "image_size": size, "events": events}


def _duplicates(
    root: Path, train: Sequence[str], test: Sequence[str], problems: list[InputError], steps: Steps
) -> list[tuple[str, str]]:
    """Pairs of a test image and a training image with the same bytes. Only files of equal length are read."""
    length = {name: (root / name).stat().st_size for name in [*train, *test]}
    lengths = {length[name] for name in train} & {length[name] for name in test}
    files = [name for name in length if length[name] in lengths]
    digests = _read_all(sha256, root, files, "duplicates", problems, steps)
    of_train = {digests[name]: name for name in reversed(train) if name in digests}
    return [(name, of_train[digests[name]]) for name in test if digests.get(name) in of_train]
