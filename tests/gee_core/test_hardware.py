import os
from types import SimpleNamespace

import pytest
import torch

from gee_core import hardware
from gee_core.errors import InputError
from gee_core.hardware import Compute


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_auto_takes_cuda_where_there_is_one_and_a_gpu_that_is_not_there_is_refused(name, count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert Compute.of("auto", "fp32").device.type == ("cuda" if count else "cpu")
    with pytest.raises(InputError, match=rf"device = {name}: torch sees {count} CUDA devices: set it to auto or cpu"):
        Compute.of(name, "fp32")


@pytest.mark.parametrize(("device", "switch", "expected"), [("cuda", "1", True), ("cuda", "0", False), ("cpu", "1", False)])
def test_the_deterministic_mode_of_torch_is_that_of_the_variable_on_a_gpu(device, switch, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setenv("GEE_DETERMINISTIC", switch)
    try:
        Compute.of(device, "fp32")
        assert torch.are_deterministic_algorithms_enabled() is expected
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is expected
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """The times of the probe's convolution on a CPU that multiplies bf16, in ms, and the cache that it is measured for."""
    times = {torch.bfloat16: 1.0, torch.float32: 2.0}
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(hardware, "_milliseconds", times.__getitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hardware.bf16_is_faster.cache_clear()
    yield times, tmp_path / "gee"
    hardware.bf16_is_faster.cache_clear()


def again():
    """The number format of `auto` in a process of its own."""
    hardware.bf16_is_faster.cache_clear()
    return Compute.of("cpu", "auto").dtype


def test_auto_precision_is_bf16_where_it_is_faster_and_runs_choose_alike(timed, monkeypatch):
    times, cache = timed
    assert again() is torch.bfloat16
    times[torch.bfloat16] = 3.0  # of the same machine at another moment
    assert again() is torch.bfloat16
    for file in cache.iterdir():
        file.unlink()
    assert again() is torch.float32
    for file in cache.iterdir():
        file.write_text("")
    times[torch.bfloat16] = 1.0
    assert again() is torch.bfloat16
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # one that cannot be written
    assert again() is torch.bfloat16
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert again() is torch.float32


@pytest.mark.parametrize(("name", "dtype"), [("cuda:1", torch.bfloat16), ("cuda", torch.float32)])
def test_auto_precision_on_a_gpu_is_that_of_the_gpu_itself(name, dtype, monkeypatch):
    generations = [7, 8]

    def properties(device=None):
        return SimpleNamespace(major=generations[getattr(device, "index", device) or 0], minor=0)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert Compute.of(name).dtype is dtype


def test_a_named_precision_is_what_matrices_are_multiplied_in_and_the_probe_times():
    a = torch.ones(2, 2)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute.of("cpu", name).autocast():
            assert (a @ a).dtype is dtype
        assert hardware._milliseconds(dtype) > 0
