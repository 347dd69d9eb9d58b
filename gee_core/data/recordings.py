"""Files of event cameras → frames of counts, uint8, all of one size, and what becomes of frames that are made smaller or fewer.

| file | holds |
|---|---|
| `.bin` | events of 5 bytes, as N-MNIST has them: x (8 bits), y (8), polarity (1), microseconds (23) |
| `.npy` | a structured array with the fields x, y, t, p, as tonic makes it |
| `.npz` | arrays t, x, y, p, or an array `frames` (T, P, H, W): SpikingJelly's events_np, and what it integrates |

Shapes: N events, T frames, P polarities (off, on), H W rows and columns, S side of the frames.
"""

from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gee_core.config import Events
from gee_core.data.opening import REPLACE, check_unpacked_size, reading
from gee_core.errors import InputError

NMNIST = [34, 34]
"""Width and height in pixels of the sensor whose recordings are .bin files."""
BEGINNINGS = (b"\x93NUMPY", b"PK")
"""Of .npy and .npz files. numpy takes other files for pickles."""


class EventList(NamedTuple):
    """The events of a recording in the order of time: time, column, row, and polarity, 0 (darker) or 1 (brighter)."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


def decode_recording(path: Path, polarities: int, size: int, cfg: Events) -> np.ndarray:
    """The frames (T, P, S, S) of a file, uint8. An InputError where it is damaged or does not fit the others."""
    frames = read_recording(path)
    assert cfg.sensor is not None
    width, height = cfg.sensor
    if isinstance(frames, EventList):
        x, y = frames.x, frames.y
        far = (x >= width) | (y >= height)
        if far.any():
            where = f"at x = {x[far][0]}, y = {y[far][0]} is outside the sensor of {width} x {height} pixels"
            remedy = "set prepare.events.sensor to its width and height, or remove the file"
            raise InputError(f"{path}: an event {where}", remedy)
        frames = integrate(frames, cfg.frames, cfg.split_by, height, width)
    if frames.shape != (wanted := (cfg.frames, polarities, height, width)):
        problem = (
            f"{path}: holds frames (T, P, H, W) = {frames.shape}, not {wanted} as the others and prepare.events.frames say"
        )
        raise InputError(problem, "set prepare.events.frames and T to the T of all files, or remove this one")
    return area_sums(torch.from_numpy(frames), size).clamp_(max=cfg.clip).to(torch.uint8).numpy()


def read_recording(path: Path) -> EventList | np.ndarray:
    """The events in a file, or its frames (T, P, H, W), whole numbers. An InputError where it holds neither."""
    with reading(path, "recording") as file:
        check_unpacked_size(file)
        if path.suffix.lower() == ".bin":
            values = np.frombuffer(file.read(), np.uint8)
            if len(values) % 5:
                problem = f"{path}: is cut off, {len(values):,} bytes are no whole number of events of 5 bytes"
                raise InputError(problem, REPLACE)
            x, y, high, middle, low = values.reshape(-1, 5).T.astype(np.int64)
            return _convert_events(path, EventList((high & 127) << 16 | middle << 8 | low, x, y, high >> 7))
        try:
            return _from_numpy(path, file)
        except MemoryError as error:  # of a header that claims more values than the file has
            raise ValueError(str(error)) from None


def _from_numpy(path: Path, file: IO[bytes]) -> EventList | np.ndarray:
    beginning = file.read(len(BEGINNINGS[0]))
    if not beginning.startswith(BEGINNINGS):
        raise ValueError("neither .npy nor .npz" if beginning else "an empty file")
    file.seek(0)
    arrays = np.load(file, allow_pickle=False)
    names = arrays.files if isinstance(arrays, np.lib.npyio.NpzFile) else arrays.dtype.names or ()
    if "frames" in names:
        return _whole_frames(path, arrays["frames"])
    if missing := sorted(set("txyp") - set(names)):
        problem = f"{path}: lacks {', '.join(missing)}, its arrays are {', '.join(names) or 'without names'}"
        raise InputError(problem, "save t, x, y and p of the events, or `frames` (T, P, H, W)")
    return _convert_events(path, EventList(*(arrays[name] for name in EventList._fields)))


def _convert_events(path: Path, events: EventList) -> EventList:
    """``events`` as whole numbers, but for times. InputError where a value is none of an event."""
    t, x, y, p = events
    if not t.shape == x.shape == y.shape == p.shape == (t.size,):
        raise InputError(f"{path}: t, x, y and p are not equally long", REPLACE)
    if not len(t):
        raise InputError(f"{path}: holds no events", "remove it")
    # numbers from 2^63 on become negative
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu" or min(x.astype(np.int64).min(), y.astype(np.int64).min()) < 0:
        raise InputError(f"{path}: x and y are not whole numbers from 0", "save the column and the row of every event")
    if not np.isin(p, (0, 1)).all():
        values = ", ".join(f"{value:g}" for value in np.unique(p)[:4])
        raise InputError(f"{path}: its polarities are {values}", "save them as 0 (off) and 1 (on), for instance as p > 0")
    t = t.astype(np.float64 if t.dtype.kind == "f" else np.int64)
    if not np.isfinite(t).all():
        raise InputError(f"{path}: its times are not finite", REPLACE)
    if (back := np.flatnonzero(t[1:] < t[:-1])).size:
        i = back[0]
        raise InputError(f"{path}: time goes back after event {i + 1:,}, from {t[i]} to {t[i + 1]}", "sort its events by t")
    return EventList(t, *(values.astype(np.int64) for values in (x, y, p)))


def _whole_frames(path: Path, frames: np.ndarray) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[1] not in (1, 2):
        problem = f"{path}: its frames have the shape {frames.shape}, not (T, P, H, W) with one or two polarities P"
        raise InputError(problem, "save them in this form")
    with np.errstate(invalid="ignore"):  # of NaN, which differs from every number
        counts = frames.astype(np.int64)
    if (counts != frames).any() or (counts < 0).any():
        problem = f"{path}: its frames ({frames.dtype}) are no counts of events"
        raise InputError(problem, "save whole numbers from 0, before any normalisation")
    if not counts.any():
        raise InputError(f"{path}: holds no events", "remove it")
    return counts


def common_sensor(path: Path, events: Events, image_size: int | None) -> tuple[int, int, Events]:
    """Polarities and side of the frames of all recordings, of which ``path`` is one, and ``events`` with its sensor."""
    recording, polarities = read_recording(path), 2
    sensor = events.sensor or (NMNIST if path.suffix.lower() == ".bin" else None)
    if not isinstance(recording, EventList):
        polarities, sensor = recording.shape[1], [recording.shape[3], recording.shape[2]]
    if sensor is None:
        problem = f"prepare.events.sensor = null: {path} is a list of events, which does not say the size of the sensor"
        raise InputError(problem, "set it to width and height in pixels, such as [128, 128]")
    if (image_size or max(sensor)) > min(sensor):
        problem = f"prepare.image_size = {image_size or 'null'}: the sensor has {sensor[0]} x {sensor[1]} pixels"
        raise InputError(problem, f"set it to {min(sensor)} or less, the side of square frames")
    return polarities, image_size or sensor[0], events.model_copy(update={"sensor": sensor})


def integrate(events: EventList, frames: int, split_by: str, height: int, width: int) -> np.ndarray:
    """Number of events of each polarity and pixel in each frame, (T, 2, H, W), int64.

    The frames are those of SpikingJelly's `integrate_events_by_fixed_frames_number`: ⌊N/T⌋ events each, or ⌊(t_N - t_1)/T⌋ of
    time; the last one has the rest too. Where no event falls into a frame, SpikingJelly fails, and this frame is empty.
    """
    t, first = events.t, np.arange(frames)
    if split_by == "number":
        starts = first * (len(t) // frames)
    else:
        starts = np.searchsorted(t, t[0] + first * ((t[-1] - t[0]) // frames), side="left")
    frame = np.searchsorted(starts, np.arange(len(t)), side="right") - 1
    position = ((frame * 2 + events.p) * height + events.y) * width + events.x
    return np.bincount(position, minlength=frames * 2 * height * width).reshape(frames, 2, height, width)


def area_sums(frames: Tensor, size: int) -> Tensor:
    """``frames`` (…, H, W) as (…, size, size): the middle square, each of its pixels added to the one that it falls into."""
    side = min(frames.shape[-2:])
    for dim in (-2, -1):
        margin = (frames.shape[dim] - side) // 2
        square = frames.narrow(dim, margin, side)
        into = (torch.arange(side, device=frames.device) * size) // side
        shape = list(square.shape)
        shape[dim] = size
        frames = square if size == side else square.new_zeros(shape).index_add_(dim, into, square)
    return frames


def as_picture(frames_TPHW: np.ndarray) -> np.ndarray:
    """The frames side by side as uint8 RGB (H, T·W, 3): brighter pixels red, darker ones blue, both dark."""
    strength_TPHW = frames_TPHW / max(1, frames_TPHW.max())
    off, on = (np.concatenate(list(strength_TPHW[:, p]), axis=1) for p in (0, -1))
    return (255 * (1 - np.stack([off, np.maximum(off, on), on], axis=-1))).round().astype(np.uint8)


def summed_steps(x_TB: Tensor, steps: int) -> Tensor:
    """``x_TB`` (T, B, …) as (steps, B, …): neighbouring frames are added up, T / steps at a time."""
    return x_TB if steps == len(x_TB) else x_TB.unflatten(0, (steps, -1)).sum(1)
