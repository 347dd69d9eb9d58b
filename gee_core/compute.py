"""Which device and number format a run uses."""

import functools
import hashlib
import json
import os
import platform
import re
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import CoreSettings


@dataclass(frozen=True)
class Compute:
    """The device that a run computes on, the type in which it multiplies matrices, and this process's part of the work."""

    device: torch.device
    dtype: torch.dtype
    """bfloat16 (autocast) or float32."""
    rank: Rank = ALONE
    """Every process computes its share of each batch."""

    @classmethod
    def of(cls, device: str, precision: str = "auto") -> "Compute":
        """Resolve the names of `base` in params.yaml. InputError where the CUDA device does not exist.

        `auto` is CUDA if there is a GPU, and bf16 on a GPU that multiplies it and on a CPU where it is faster.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        chosen, n_cuda = torch.device(device), torch.cuda.device_count()
        if chosen.type == "cuda" and (chosen.index or 0) >= n_cuda:
            raise InputError(f"= {device}: torch sees {n_cuda} CUDA devices", "set it to auto or cpu", ("device",))
        bf16 = precision == "bf16"
        if precision == "auto" and chosen.type == "cuda":
            bf16 = torch.cuda.get_device_capability(chosen)[0] >= 8  # is_bf16_supported looks at the current device alone
        elif precision == "auto":
            bf16 = bf16_is_faster()
        return cls(chosen, torch.bfloat16 if bf16 else torch.float32)

    @property
    def number_format(self) -> str:
        """The name of ``dtype``."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager:
        """Mixed precision. float32 switches it off."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


PROBE = (16, 64, 16, 16)
"""(B, C, H, W) of the convolution that is timed, a layer of CIFARNet."""

ROUNDS = 6
"""The first one, in which oneDNN compiles, is not counted."""


@functools.cache
def bf16_is_faster() -> bool:
    """Whether this CPU multiplies bfloat16, and a convolution's passes take less time in it than in float32.

    Some processors have the instructions and are slower with them, so it is timed, once per kind of CPU and release of torch:
    the milliseconds are kept in the user's cache, `~/.cache/gee`.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gee"
    file = cache / f"convolution-{cpu_kind()}-torch-{torch.__version__}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text(encoding="utf-8"))
        return bool(known["bfloat16"] < known["float32"])
    formats = torch.bfloat16, torch.float32
    rounds = [[_milliseconds(dtype) for dtype in formats] for _ in range(ROUNDS)][1:]
    bf16, fp32 = map(min, zip(*rounds, strict=True))
    with suppress(OSError):  # a home that cannot be written: it is measured again
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"bfloat16": bf16, "float32": fp32}), encoding="utf-8")
        temporary.replace(file)
    return bf16 < fp32


def _milliseconds(dtype: torch.dtype) -> float:
    """What the forward and backward pass of a 3x3 convolution take in ``dtype``."""
    x, W, gradient = (torch.ones(size, dtype=dtype) for size in (PROBE, (PROBE[1], PROBE[1], 3, 3), PROBE))
    x, W, gradient = (tensor.to(memory_format=torch.channels_last) for tensor in (x, W, gradient))
    with torch.inference_mode(False), torch.enable_grad():
        x, W = x.requires_grad_(), W.requires_grad_()
        start = time.perf_counter()
        F.conv2d(x, W, padding=1).backward(gradient)
    return 1e3 * (time.perf_counter() - start)


def set_up_gpu(device: torch.device) -> None:
    """Set up this process to compute on ``device``, if it is a GPU.

    A GPU that has a number becomes torch's current one: pinned memory and the like would open the first one too.
    `GEE_DETERMINISTIC=1` switches torch's deterministic mode on.
    """
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    if CoreSettings.read().deterministic == "1":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at the first matrix product
        torch.use_deterministic_algorithms(True)


def cpu_name() -> str:
    """Its name, family and model where Linux tells them, such as "AMD EPYC, family 26, model 2"; else its architecture."""
    info = Path("/proc/cpuinfo")
    said = dict(re.findall(r"^(.+?)\s*: (.+)$", info.read_text(), re.MULTILINE)) if info.is_file() else {}
    numbers = [f"{key.removeprefix('cpu ')} {said[key]}" for key in ("cpu family", "model") if key in said]
    return ", ".join([said.get("model name", platform.machine()), *numbers])


def cpu_kind() -> str:
    """A name for CPUs with the instructions of this one, of letters and digits."""
    said = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else platform.processor()
    flags = next((line for line in said.splitlines() if line.startswith(("flags", "Features"))), said)
    return hashlib.sha256(f"{torch.backends.cpu.get_cpu_capability()} {flags}".encode()).hexdigest()[:8]


def limit_threads(largest_activation: int, worth: int = 2**20) -> None:
    """Use one CPU thread if no layer has ``worth`` values (batch and steps included): sharing so little work does not pay."""
    if largest_activation < worth:
        torch.set_num_threads(1)
