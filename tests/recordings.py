"""Small recordings of an event camera, in each of the forms that are read: bars that move in the direction of their class."""

from pathlib import Path

import numpy as np

SIDE = 12
CLASSES = {"left": -1, "right": 1}
"""By the name of a class, how many pixels its bar moves in each step."""


def recording(seed: int, speed: int = 1, n: int = 200, side: int = SIDE) -> dict[str, np.ndarray]:
    """``n`` events of a bar, on at its front and off at its back, in the order of time; t in microseconds."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, n))
    t[0], t[-1] = 0, 300_000
    p = rng.integers(0, 2, n)
    x = (rng.integers(side) + speed * (t * side // 300_001) + speed * p) % side
    return {"t": t, "x": x, "y": rng.integers(0, side, n), "p": p}


def as_bin(events: dict[str, np.ndarray]) -> bytes:
    """As N-MNIST has them."""
    t, x, y, p = (events[name] for name in "txyp")
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def save(path: Path, events: dict[str, np.ndarray]) -> Path:
    """Write a recording in the form that the end of the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        path.write_bytes(as_bin(events))
    elif path.suffix == ".npz":
        np.savez(path, **events)
    else:  # tonic's
        array = np.zeros(len(events["t"]), np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]))
        for name in "xytp":
            array[name] = events[name]
        np.save(path, array)
    return path


def make_recordings(root: Path, end: str = ".bin", train: int = 8, test: int = 4) -> Path:
    """A folder with ``train`` and ``test`` recordings of each class."""
    for split, first, count in (("train", 0, train), ("test", 100, test)):
        for label, (name, speed) in enumerate(CLASSES.items()):
            for i in range(count):
                save(root / split / name / f"{i}{end}", recording(first + 2 * i + label, speed))
    return root
