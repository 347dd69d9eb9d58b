"""Small image folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gee_core.config import PrepareConfig


def config(path="unused", **changes) -> PrepareConfig:
    """The section `prepare` of a folder of images, with ``changes``."""
    values = {"dataset": "folder", "path": str(path), "image_size": None, "max_train_images": None, "events": None}
    values |= {"max_test_images": None, "name": None, "test_share": 0.2, "holdout": 0.2, "stream": False}
    return PrepareConfig(**(values | changes))


def noise(seed: int, height: int, width: int, channels: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., Path]:
    """Writes train/ and test/ with ``counts`` images each of the given classes, all different."""

    def make(
        train: dict[str, int], test: dict[str, int], size=(8, 8), channels: int = 3, test_name="test", extension="png"
    ) -> Path:
        seed = 0
        for split, counts in (("train", train), (test_name, test)):
            for name, count in counts.items():
                folder = tmp_path / "raw" / split / name
                folder.mkdir(parents=True)
                for i in range(count):
                    seed += 1
                    noise(seed, *size, channels).save(folder / f"{i:03}.{extension}")
        return tmp_path / "raw"

    return make


@pytest.fixture(autouse=True)
def _two_loader_workers(monkeypatch):
    monkeypatch.setenv("GEE_LOADER_WORKERS", "2")
