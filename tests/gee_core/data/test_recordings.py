import contextlib
import os

import numpy as np
import pytest
import torch

from gee_core.config import Events
from gee_core.data import opening
from gee_core.data.images import StreamedImages
from gee_core.data.prepared import load_prepared, write_prepared
from gee_core.data.recordings import EventList, area_sums, decode_recording, integrate, read_recording, summed_steps
from gee_core.data.sources import load_source
from gee_core.errors import InputError
from tests.gee_core.data.conftest import config as data_config
from tests.recordings import SIDE, as_bin, make_recordings, recording, save

FOUR = {"frames": 4, "split_by": "number", "clip": 255}


def config(path, **changes):
    return data_config(path, **({"dataset": "events", "events": FOUR} | changes))


def sensor(**changes):
    return FOUR | {"sensor": [SIDE, SIDE]} | changes


def by_definition(events, split_by, frames, H, W):
    """SpikingJelly's frames, as its documentation defines them: event after event."""
    t, N = events["t"], len(events["t"])
    found = np.zeros((frames, 2, H, W))
    for j in range(frames):
        if split_by == "number":
            inside = [i for i in range(N) if N // frames * j <= i and (j == frames - 1 or i < N // frames * (j + 1))]
        else:
            start, step = t[0], (t[-1] - t[0]) // frames
            inside = [i for i in range(N) if t[i] >= start + step * j and (j == frames - 1 or t[i] < start + step * (j + 1))]
        for i in inside:
            found[j, events["p"][i], events["y"][i], events["x"][i]] += 1
    return found


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_frames_are_those_of_spikingjelly_and_no_event_is_lost(split_by, frames):
    for seed in range(3):
        events = recording(seed, n=101 + seed)
        found = integrate(EventList(**events), frames, split_by, SIDE, SIDE)
        np.testing.assert_array_equal(found, by_definition(events, split_by, frames, SIDE, SIDE))
        assert found.sum() == 101 + seed
        with contextlib.suppress(ImportError, OSError):  # its package asks for torchaudio, which may not fit torch
            from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

            theirs = integrate_events_by_fixed_frames_number(events, split_by, frames, SIDE, SIDE)
            np.testing.assert_array_equal(found, theirs)


def test_pauses_and_few_events_leave_frames_empty_and_lose_nothing():
    t = np.array([0, 1, 2, 90, 95, 99, 99])
    events = EventList(t, *(np.zeros(7, int) for _ in range(3)))
    assert integrate(events, 5, "time", 1, 1).sum((1, 2, 3)).tolist() == [3, 0, 0, 0, 4]
    assert integrate(events, 5, "number", 1, 1).sum((1, 2, 3)).tolist() == [1, 1, 1, 1, 3]
    assert integrate(events, 9, "number", 1, 1).sum() == 7


@pytest.mark.parametrize("end", [".bin", ".npy", ".npz"])
def test_each_form_of_file_holds_the_same_events(tmp_path, end):
    events = recording(3)
    found = read_recording(save(tmp_path / f"a{end}", events))
    for name, values in found._asdict().items():
        np.testing.assert_array_equal(values, events[name])


def test_the_bits_of_an_event_of_nmnist(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes([33, 7, 0x80 | 0x52, 0x34, 0x56]))
    assert read_recording(tmp_path / "a.bin") == EventList([0x523456], [33], [7], [1])


def test_frames_that_spikingjelly_wrote_are_taken_as_they_are(tmp_path):
    events = recording(5)
    for split, n in (("train", 5), ("test", 2)):  # its layout, and float64 as it has them
        for i, name in enumerate(("a", "b")):
            (tmp_path / f"frames_number_4_split_by_number/{split}/{name}").mkdir(parents=True)
            for k in range(n):
                frames = by_definition(recording(10 * k + i), "number", 4, SIDE, SIDE)
                np.savez(tmp_path / f"frames_number_4_split_by_number/{split}/{name}/{k}.npz", frames=frames)
    source = load_source(config(tmp_path / "frames_number_4_split_by_number"))
    assert source.train.images.shape == (10, 4, 2, SIDE, SIDE)
    wanted = integrate(EventList(**recording(21)), 4, "number", SIDE, SIDE)
    np.testing.assert_array_equal(source.train.images[7], wanted)
    one = events | {}
    np.savez(tmp_path / "one.npz", frames=by_definition(one, "number", 4, SIDE, SIDE).sum(1, keepdims=True))
    assert read_recording(tmp_path / "one.npz").shape == (4, 1, SIDE, SIDE)


def test_smaller_frames_hold_the_same_events_and_clipped_ones_the_largest_count(tmp_path):
    path = save(tmp_path / "a.bin", recording(1, n=500))
    whole, small = (decode_recording(path, 2, side, Events(**sensor())) for side in (SIDE, 5))
    assert whole.sum() == small.sum() == 500
    for y in range(5):
        for x in range(5):
            rows, columns = ([i for i in range(SIDE) if i * 5 // SIDE == k] for k in (y, x))
            np.testing.assert_array_equal(small[:, :, y, x], whole[:, :, rows][..., columns].sum((2, 3)))
    assert (decode_recording(path, 2, 5, Events(**sensor(clip=3))) == np.minimum(small, 3)).all()
    wide = torch.arange(24).reshape(1, 3, 8)
    assert torch.equal(area_sums(wide, 3), wide[..., 2:5])  # the middle square
    assert torch.equal(area_sums(wide, 1), wide[..., 2:5].sum((1, 2))[:, None, None])


def test_fewer_steps_are_sums_of_neighbours():
    x = torch.arange(24.0).reshape(4, 2, 3)
    assert torch.equal(summed_steps(x, 2), torch.stack([x[0] + x[1], x[2] + x[3]]))


@pytest.mark.parametrize("end", [".bin", ".npy"])
def test_streamed_recordings_are_the_packed_ones_after_a_round_trip_over_the_disk(tmp_path, end):
    root, read = make_recordings(tmp_path / "raw", end), []
    for stream in (False, True):
        source = load_source(config(root, stream=stream, image_size=8, events=sensor()))
        source = type(source)(**{**vars(source), "holdout": torch.tensor([0, 8])})
        meta = write_prepared(tmp_path / f"{stream}", "bars", source, (0.0, 0.0), (1 / 255, 1 / 255))
        assert meta.events == Events(**sensor()) and meta.in_channels == 2
        read.append(load_prepared(tmp_path / f"{stream}"))
    packed, streamed = (data.train for data in read)
    assert isinstance(streamed, StreamedImages)
    batches = [images.batches(5, torch.Generator().manual_seed(1)) for images in (packed, streamed)]
    for (one, of_one), (two, of_two) in zip(*batches, strict=True):
        assert torch.equal(one, two) and torch.equal(of_one, of_two)
        assert one.shape[1:] == (4, 2, 8, 8)
    counts = read[0].meta.normalise(packed.images[:3])
    assert torch.equal(counts, packed.images[:3].transpose(0, 1).float())  # (T, B, P, H, W), the counts themselves


def npz(**arrays):
    def write(path):
        np.savez(path, **arrays)

    return write


def spoilt(**changes):
    return npz(**recording(0) | changes)


def raw(content):
    return lambda path: path.write_bytes(content)


def claim(path):
    """An array whose header says that it has 10^12 values."""
    np.save(path, np.zeros(3))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(3,), }" + b" " * 12, b"(1000000000000,), }"))
    assert len(path.read_bytes()) == len(content)


BAD = [
    ("bin", raw(as_bin(recording(0))[:-3]), "is cut off, 997 bytes"),
    ("bin", raw(bytes([40, 3, 0, 0, 0])), "an event at x = 40, y = 3 is outside the sensor of 12 x 12 pixels"),
    ("bin", raw(bytes([1, 1, 0, 0, 9, 1, 1, 0, 0, 8])), "time goes back after event 1, from 9 to 8: sort its events by t"),
    ("bin", os.mkfifo, r"not a readable recording \(not a file\): replace or remove it"),
    ("npy", raw(b""), r"not a readable recording \(an empty file\)"),
    ("npy", lambda path: np.save(path, np.zeros((4, 5))), "lacks p, t, x, y, its arrays are without names"),
    ("npy", claim, r"not a readable recording \(Unable to allocate .* for an array with shape \(1000000000000,\)"),
    ("npz", raw(b"events in a text"), r"not a readable recording \(neither \.npy nor \.npz\): replace or remove it$"),
    ("npz", spoilt(p=2 * recording(0)["p"] - 1), r"its polarities are -1, 1: save them as 0 \(off\) and 1 \(on\)"),
    ("npz", spoilt(x=recording(0)["x"] + 0.5), "x and y are not whole numbers from 0"),
    ("npz", spoilt(y=np.full(200, 2**63, np.uint64)), "x and y are not whole numbers from 0"),
    ("npz", spoilt(t=np.append(recording(0)["t"][:-1], np.inf)), "its times are not finite: replace or remove it"),
    ("npz", spoilt(t=np.arange(3)), "are not equally long"),
    ("npz", npz(frames=np.full((4, 2, SIDE, SIDE), 0.5)), r"its frames \(float64\) are no counts of events"),
    ("npz", npz(frames=np.zeros((4, 2, SIDE, SIDE))), "holds no events"),
    ("npz", npz(frames=np.ones((4, 3, SIDE, SIDE))), r"not \(T, P, H, W\) with one or two polarities"),
    (
        "npz",
        npz(frames=np.ones((8, 2, SIDE, SIDE))),
        r"= \(8, 2, 12, 12\), not \(4, 2, 12, 12\) .*: set prepare.events.frames and T",
    ),
]


@pytest.mark.parametrize(("end", "write", "says"), BAD)
def test_a_bad_recording_is_refused_by_its_name(tmp_path, end, write, says):
    path = tmp_path / f"bad.{end}"
    write(path)
    with pytest.raises(InputError, match=f"bad.{end}: .*{says}"):
        decode_recording(path, 2, SIDE, Events(**sensor()))


@pytest.mark.parametrize("end", [".bin", ".npy", ".npz"])
def test_a_recording_that_unpacks_to_more_than_is_safe_is_refused_before_it_does(tmp_path, monkeypatch, end):
    path = save(tmp_path / f"a{end}", recording(0, n=1000))
    if end == ".npz":
        np.savez_compressed(path, frames=np.ones((4, 2, 100, 100), np.uint8))
        assert path.stat().st_size < 4000
    monkeypatch.setattr(opening, "MAX_BYTES", 4000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it is unpacked"))
    with pytest.raises(InputError, match=r"not a readable recording \(unpacks to [0-9,]+ bytes, more than is safe, 4,000\)"):
        read_recording(path)


def test_what_a_folder_of_recordings_lacks_is_said(tmp_path):
    root = make_recordings(tmp_path / "raw", ".npy", train=5, test=1)
    with pytest.raises(InputError, match=r"events.sensor = null: .*0.npy is a list of events, .*: set it to width and height"):
        load_source(config(root))
    with pytest.raises(InputError, match="image_size = 16: the sensor has 12 x 12 pixels: set it to 12 or less"):
        load_source(config(root, image_size=16, events=sensor()))
    with pytest.raises(InputError, match=r"left: holds no images \(.*\): but recordings: set prepare.dataset to events"):
        load_source(config(root, dataset="folder", events=None))
    with pytest.raises(InputError, match=r"holds 2 class folders, nmnist has 10: set prepare\.dataset to events"):
        load_source(config(root, dataset="nmnist"))
