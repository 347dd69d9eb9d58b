"""How this process keeps memory, and which errors say that there is none left, or no GPU. No torch here."""

import ctypes
import re
import sys


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks: every training step allocates the same tensors, and would pay for page faults."""
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def full_gpu(message: str) -> bool:
    """Whether the message of an error of torch, the driver, Triton, cuBLAS or cuDNN says that a GPU's memory is full."""
    return re.search(r"CUDA.*out of memory|_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)", message) is not None


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out, on a GPU or the host. torch's own errors count if torch is loaded."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or full_gpu(str(error)))


def lost_gpu(error: BaseException) -> bool:
    """Whether this process cannot use its GPU any more: after most of CUDA's errors every call returns the same error."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not out_of_memory(error)
