"""Tests that need a CUDA device; elsewhere they are skipped.

GEE_TEST_DEVICE=cpu runs them on the CPU, with the fused loops as they stand in place of compiled ones: it
shows errors in the tests themselves, not in CUDA.
"""

import os
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before other tests' first matrix product

import pytest
import torch

from gee_core.compute import set_up_gpu
from gee_core.snn import kernels

HERE = Path(__file__).parent
DEVICE = torch.device(os.environ.get("GEE_TEST_DEVICE", "cuda"))
FROM_THE_COMPILER = ("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def pytest_collection_modifyitems(items):
    absent = DEVICE.type == "cuda" and not torch.cuda.is_available()
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cuda)
            item.add_marker(pytest.mark.filterwarnings(*FROM_THE_COMPILER))
            if absent:
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device under test."""
    return DEVICE


@pytest.fixture(autouse=True)
def _exact_and_fused(monkeypatch):
    """Convolutions in float32, as matrix products are by default, not in TF32; fused loops whatever the size."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if DEVICE.type == "cpu":
        monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
        monkeypatch.setattr(kernels, "_compiles", [True])
        monkeypatch.setattr(kernels, "_compiled", lambda loop, on_gpu: loop)
    yield
    assert kernels._compiles in ([], [True]), "compiling failed: eager loops were tested"


@pytest.fixture
def deterministic(monkeypatch):
    """Deterministic mode, as the variable turns it on: an operation that is not raises."""
    monkeypatch.setenv("GEE_DETERMINISTIC", "1")
    set_up_gpu(DEVICE)
    assert torch.are_deterministic_algorithms_enabled() is (DEVICE.type == "cuda")
    yield
    torch.use_deterministic_algorithms(False)
