"""A dry run of prepare on a folder of images: its functions list, split and read the files, and each problem is kept."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import TypeVar

import torch

from gee_core.config import PrepareConfig
from gee_core.data import folders
from gee_core.data.folders import RECORDINGS, Listing
from gee_core.data.image_files import Form, Header, decode_image, each_file, header, mixed_depths
from gee_core.data.images import one_colour
from gee_core.data.pixels import EXTENSIONS
from gee_core.data.recordings import EventList, read_recording
from gee_core.data.sources import split_files
from gee_core.errors import InputError
from gee_core.storage.atomic_files import sha256
from pipelines.project.paths import check_links
from pipelines.runtime.progress import Steps

SIZES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
"""Sides in pixels that are proposed for photographs. A larger side costs time and rarely pays."""

Seen = TypeVar("Seen")


@dataclass
class Survey:
    """A folder of images, as `gee data check` shows it. Images have their names below the folder."""

    facts: dict[str, str]
    """What a user has to know, by a word or two: of the splits first."""
    counts: dict[str, dict[str, int]]
    """Images by split and class: as prepare would split them, or as they lie there if it could not."""
    problems: list[InputError]
    """Each would stop prepare."""
    images: dict[str, list[str]] = field(default_factory=dict)
    """Images that deserve a look, by what is the matter with them."""
    params: dict[str, object] = field(default_factory=dict)
    """The section `prepare` of params.yaml for these images."""


def survey(cfg: PrepareConfig, decode: bool, steps: Steps) -> Survey:
    """Look at the folder `prepare.path` as prepare would: list it, and read the header of every image, or ``decode`` it.

    Raises InputError where the folder has no classes.
    """
    root = Path(cfg.path)
    walked = folders.walk(root) if root.is_dir() else ()  # `list_all` refuses what is none
    ends = Counter(Path(name).suffix.lower() or name for _, _, names in walked for name in names)
    is_events = ends.keys() & set(RECORDINGS) and not ends.keys() & set(EXTENSIONS)
    endings = RECORDINGS if is_events else EXTENSIONS
    listing = folders.list_all(root, endings)
    counts = {split: {name: len(files) for name, files in names.items()} for split, names in listing.by_class.items()}
    result = Survey(_origins(listing, cfg), counts, list(folders.problems(listing, endings)))
    train, test = list[str](), list[str]()
    if not result.problems:
        with _keep_problems(result.problems):
            train, train_labels, test, test_labels, holdout = split_files(listing, cfg)
            scored = torch.zeros(len(train), dtype=torch.bool).index_fill(0, holdout, True)
            parts = {"train": train_labels[~scored], "hold-out": train_labels[scored], "test": test_labels}
            result.counts = {split: _by_class(part, listing.class_names) for split, part in parts.items()}
    if is_events:
        recordings = _read_all(_look_at_recording, root, listing.all_files, "recordings", result.problems, steps)
        if recordings:
            _describe_recordings(result, cfg, recordings)
        looks = set(recordings)
    else:
        note = "decode" if decode else "headers"
        images = _read_all(partial(_look_at_image, decode), root, listing.all_files, note, result.problems, steps)
        if images:
            _describe_images(result, cfg, images, [name for name in train if name in images])
        looks = set(images)
    train, test = ([name for name in names if name in looks] for names in (train, test))
    for name, others in {
        "ignored": [
            f"{n:,} {end}" for end, n in sorted(ends.items(), key=lambda e: (-e[1], e[0])) if not end.endswith(endings)
        ],
        "not read": listing.unread(),
    }.items():
        if others:
            result.facts[name] = ", ".join(others[:8]) + (", …" if len(others) > 8 else "")
    result.images["duplicates"] = _duplicates(root, train, test, result.problems, steps)
    if not result.problems:
        with _keep_problems(result.problems):
            check_links(cfg)
    return result


@contextlib.contextmanager
def _keep_problems(problems: list[InputError]) -> Iterator[None]:
    try:
        yield
    except InputError as problem:
        problems.append(problem)


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


def _by_class(labels: torch.Tensor, class_names: Sequence[str]) -> dict[str, int]:
    return dict(zip(class_names, torch.bincount(labels, minlength=len(class_names)).tolist(), strict=True))


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
    looks: dict[str, tuple[Header, bytes | None]],
    train: Sequence[str],
) -> None:
    """Fill in sizes, modes and colours of the images, the params that fit, and the problems of all images together."""
    colours = {name: colour for name, (_, colour) in looks.items() if colour is not None}
    headers = {name: head for name, (head, _) in looks.items()}
    if train and set(train) <= colours.keys() and len({colours[name] for name in train}) == 1:
        result.problems.append(one_colour(cfg.path))
    if mixed := mixed_depths(Path(cfg.path), headers):
        result.problems.append(mixed)
    by_area = sorted(headers.values(), key=lambda head: (head.width * head.height, head))
    short = {name: min(head.width, head.height) for name, head in headers.items()}
    middle, n_sizes, first, last = median_low(short.values()), len({head.size for head in by_area}), by_area[0], by_area[-1]
    varied = f"{n_sizes:,} sizes from {first.size} to {last.size}, the median of the shorter sides is {middle}"
    channels = 1 if all(head.is_grey for head in by_area) else 3
    modes = ", ".join(f"{mode} {n:,}" for mode, n in Counter(head.mode for head in by_area).most_common())
    result.facts |= {
        "size": first.size if n_sizes == 1 else varied,
        "mode": f"{modes}; read as {['RGB', 'grey'][channels == 1]}",
    }
    is_uniform = n_sizes == 1 and first.width == first.height and 4 <= middle <= SIZES[-1]
    image_size = None if is_uniform else max((side for side in SIZES if side <= middle), default=max(middle, 4))
    side = image_size or middle
    result.images["tiny"] = [name for name, pixels in short.items() if 2 * pixels < side]
    result.images["one colour"] = list(colours)
    result.params = {"dataset": "folder", "path": cfg.path, "name": cfg.data_name, "image_size": image_size}


def _describe_recordings(result: Survey, cfg: PrepareConfig, looks: dict[str, tuple[int, float, int, int, int]]) -> None:
    """Fill in events, durations and sensor of the recordings, and the params that fit."""
    n, durations, widths, heights, frames = ([*values] for values in zip(*looks.values(), strict=True))
    width, height, T = max(widths), max(heights), max(frames)
    result.facts["events"] = f"{min(n):,} to {max(n):,}, the median is {median_low(n):,}"
    result.facts["frames" if T else "durations"] = str(T) if T else f"{min(durations):g} to {max(durations):g}"
    result.facts["sensor"] = f"{width} x {height} pixels{'' if T else ', by the events'}"
    events = {"frames": T or 4, "split_by": "number", "clip": 255 if T else 15, "sensor": [width, height]}
    size = None if width == height else min(width, height)
    result.params = {"dataset": "events", "path": cfg.path, "name": cfg.data_name, "image_size": size, "events": events}


def _duplicates(root: Path, train: Sequence[str], test: Sequence[str], problems: list[InputError], steps: Steps) -> list[str]:
    """Each test image that is a training image too, byte for byte, as ``TEST = TRAIN``. Only files of equal length are read."""
    length = {name: (root / name).stat().st_size for name in [*train, *test]}
    lengths = {length[name] for name in train} & {length[name] for name in test}
    files = [name for name in length if length[name] in lengths]
    digests = _read_all(sha256, root, files, "duplicates", problems, steps)
    of_train = {digests[name]: name for name in reversed(train) if name in digests}
    return [f"{name} = {of_train[digests[name]]}" for name in test if digests.get(name) in of_train]
