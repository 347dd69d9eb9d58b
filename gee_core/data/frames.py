"""Events → frames of counts, and what becomes of frames that are made smaller or fewer.

Shapes: N events, T frames, P polarities (off, on), H W rows and columns.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class EventList(NamedTuple):
    """The events of a recording in the order of time: time, column, row, and polarity, 0 (darker) or 1 (brighter)."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


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
