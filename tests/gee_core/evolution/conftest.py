"""A small prepared data set: eight-pixel images of two classes that differ in brightness."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, write_prepared
from gee_core.evolution.candidate import ProxyTask
from tests.gee_core.evolution.proxy_task import BASE, EVOLVE, NETWORK

N_TRAIN, N_TEST = 32, 8


def images(n: int, seed: int) -> PackedImages:
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 128, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return PackedImages((noise + 120 * labels[:, None, None, None]).to(torch.uint8), labels)


@pytest.fixture(scope="module")
def make_prepared(tmp_path_factory) -> Callable[..., Path]:
    """Writes the set to a new folder; ``test_seed`` changes the test images, and nothing else."""

    def make(test_seed: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("data") / "prepared"
        parts = images(N_TRAIN, seed=0), images(N_TEST, test_seed), torch.arange(0, N_TRAIN, 3)
        write_prepared(folder, "folder", Source("none", ("dark", "bright"), *parts), mean=(0.5,), std=(0.3,))
        return folder

    return make


@pytest.fixture(scope="module")
def task(make_prepared) -> ProxyTask:
    return ProxyTask(make_prepared(), BASE, NETWORK, EVOLVE)
