"""Which device and number format a run uses."""

import ctypes
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from gee_core.errors import InputError


@dataclass(frozen=True)
class Compute:
    """The device that a run computes on, and the type in which it multiplies matrices."""

    device: torch.device
    dtype: torch.dtype
    """bfloat16 (autocast) or float32."""

    @classmethod
    def of(cls, device: str, precision: str = "auto") -> "Compute":
        """Resolve names as params.yaml has them.

        Args:
            device: ``auto`` takes CUDA where there is one, else the CPU; other names are taken as they are.
            precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware multiplies it natively.

        Raises:
            InputError: the CUDA device does not exist.
        """
        found = _device(device)
        return cls(found, _dtype(precision, found))

    def autocast(self) -> AbstractContextManager:
        """Mixed precision; float32 switches it off."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"base.device = {name}: torch sees {torch.cuda.device_count()} CUDA devices", "set it to auto or cpu")
    return device


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        precision = "bf16" if native else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def set_threads(largest_activation: int | float) -> None:
    """One CPU thread where no layer has more than 2²⁰ values (batch and steps included), else torch's default.

    Sharing so little work between threads costs more than it saves.
    """
    if largest_activation < 2**20:
        torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks for the next step instead of returning them to the system.

    A training step frees and allocates the same tensors again and again, and each time pays for page faults. Entry points
    call this once per process; with another C library it does nothing.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
