import json
import os

import pytest
import torch

from gee_core import compute
from gee_core.compute import Compute, set_up_gpu
from gee_core.errors import InputError


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_auto_takes_cuda_where_there_is_one_and_a_missing_gpu_is_refused(name, count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert Compute.of("auto", "fp32").device.type == ("cuda" if count else "cpu")
    with pytest.raises(InputError, match=rf"device = {name}: torch sees {count} CUDA devices: set it to auto or cpu"):
        Compute.of(name, "fp32")


@pytest.mark.parametrize(("device", "switch", "expected"), [("cuda", "1", True), ("cuda", "0", False), ("cpu", "1", False)])
def test_a_gpu_adds_in_a_fixed_order_where_the_variable_says_so(device, switch, expected, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setenv("GEE_DETERMINISTIC", switch)
    try:
        set_up_gpu(torch.device(device))
        assert torch.are_deterministic_algorithms_enabled() is expected
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is expected
    finally:
        torch.use_deterministic_algorithms(False)


def choose_format():
    """The number format of `auto` in a process of its own."""
    compute.bf16_is_faster.cache_clear()
    return Compute.of("cpu", "auto").dtype


def test_auto_precision_is_the_faster_one_which_is_timed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    timed = choose_format()
    [file] = (tmp_path / "gee").iterdir()
    times = json.loads(file.read_text())
    assert timed is (torch.bfloat16 if times["bfloat16"] < times["float32"] else torch.float32)
    for bf16, expected in ((1.0, torch.bfloat16), (3.0, torch.float32)):
        file.write_text(json.dumps({"bfloat16": bf16, "float32": 2.0}))
        assert choose_format() is expected
    file.write_text("")
    assert choose_format() in (torch.bfloat16, torch.float32)
    assert json.loads(file.read_text()).keys() == times.keys()
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # one that cannot be written
    assert choose_format() in (torch.bfloat16, torch.float32)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_format() is torch.float32
    compute.bf16_is_faster.cache_clear()


@pytest.mark.parametrize(("name", "dtype"), [("cuda:1", torch.bfloat16), ("cuda:0", torch.float32)])
def test_auto_precision_on_a_gpu_is_that_of_the_gpu_itself(name, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7 + device.index, 0))
    assert Compute.of(name).dtype is dtype


def test_a_named_precision_is_what_matrices_are_multiplied_in():
    a = torch.ones(2, 2)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute.of("cpu", name).autocast():
            assert (a @ a).dtype is dtype
