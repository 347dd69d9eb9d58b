"""Which device and number format a run uses."""

import ctypes
import sys
from contextlib import AbstractContextManager

import torch

from gee_core.errors import InputError


def resolve_device(name: str) -> torch.device:
    """``auto`` → CUDA where there is one, else the CPU; other names as they are.

    Raises:
        InputError: the CUDA device that is asked for does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"base.device = {name}: torch sees {torch.cuda.device_count()} CUDA devices; set it to auto or cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """``fp32`` and ``bf16`` as they are; ``auto`` → bf16 where the hardware multiplies it natively."""
    if name == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        name = "bf16" if native else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager:
    """Mixed precision on ``device``; float32 switches it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision is torch.bfloat16)


def set_threads(largest_activation: int | float) -> None:
    """One CPU thread where no layer has more than 2²⁰ values (batch and steps included), else torch's default.

    Sharing so little work between threads costs more than it saves.
    """
    if largest_activation < 2**20:
        torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks that are freed for the next step, instead of giving them back to the system.

    A training step frees and takes the same tensors again and again, and each time pays for page faults. For entry points,
    once per process; does nothing where the C library is another.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
