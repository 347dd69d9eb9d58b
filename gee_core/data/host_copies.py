"""Copies from the host to the device that do not wait for the device to finish its work."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class WithoutWaiting(TorchFunctionMode):
    """Context in which ``torch.tensor(numbers, device=…)`` does not wait, as torchvision's transforms would."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """``func(*args, **kwargs)``; numbers become a tensor of the host first."""
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if func is torch.tensor else None
        result = func(*args, **kwargs)
        return result if device is None else result.to(device, non_blocking=True)
