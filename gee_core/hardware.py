"""Which device and number format a run uses."""

import hashlib
import os
import platform
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

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
        """Resolve the names of `base` in params.yaml; InputError where the CUDA device does not exist.

        On a GPU, `GEE_DETERMINISTIC=1` puts this process into torch's deterministic mode.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        found, n_cuda = torch.device(device), torch.cuda.device_count()
        if found.type == "cuda" and (found.index or 0) >= n_cuda:
            raise InputError(f"`device` = {device}: torch sees {n_cuda} CUDA devices", "set it to auto or cpu")
        if found.type == "cuda" and CoreSettings.read().deterministic == "1":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at the first matrix product
            torch.use_deterministic_algorithms(True)
        bf16 = precision == "bf16"
        if precision == "auto" and found.type == "cuda":
            bf16 = torch.cuda.get_device_capability(found)[0] >= 8  # is_bf16_supported looks at the current device alone
        elif precision == "auto":
            bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return cls(found, torch.bfloat16 if bf16 else torch.float32)

    def autocast(self) -> AbstractContextManager:
        """Mixed precision; float32 switches it off."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def settle(device: torch.device) -> None:
    """Make a GPU that has a number torch's current one: pinned memory and the like would open the first one too."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def kind_of_cpu() -> str:
    """A name for CPUs with the instructions of this one, of letters and digits."""
    said = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else platform.processor()
    flags = next((line for line in said.splitlines() if line.startswith(("flags", "Features"))), said)
    return hashlib.sha256(f"{torch.backends.cpu.get_cpu_capability()} {flags}".encode()).hexdigest()[:8]


def set_threads(largest_activation: int, worth: int = 2**20) -> None:
    """Use one CPU thread if no layer has ``worth`` values (batch and steps included): sharing so little work does not pay."""
    if largest_activation < worth:
        torch.set_num_threads(1)
