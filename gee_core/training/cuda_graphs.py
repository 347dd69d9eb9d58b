"""A training step's passes through a network as CUDA graphs: two launches, in place of thousands of short kernels' own.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import gc
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from gee_core.errors import InputError, in_short
from gee_core.memory import out_of_memory


class GraphedNetwork(nn.Module):
    """``module`` on a GPU; its forward and backward pass in training are captured once per form of batch, then replayed.

    A form is a shape, T and the way in which matrices are multiplied. It is captured at its second batch in a row, so that an
    odd last batch runs as usual. The output is overwritten by the next batch.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self._form: tuple | None = None
        """Of the batch before."""
        self._captured: tuple[tuple | None, Callable[[Tensor], Tensor]] = None, module

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """o (T, B, K).

        Raises:
            InputError: the network does something that a CUDA graph cannot hold, such as waiting for the device.
        """
        if not (self.training and torch.is_grad_enabled()):
            return self.module(x_BCHW)
        kind = x_BCHW.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        form, before = (x_BCHW.shape, x_BCHW.dtype, getattr(self.module, "T", None), autocast), self._form
        self._form = form
        # The cache of autocast is no graph's, and sums the gradients of what it holds in another order.
        with torch.autocast(kind, autocast, enabled=autocast is not None, cache_enabled=False):
            if form == before and form != self._captured[0]:
                self._captured = None, self.module  # its memory is free before the next one's is taken
                self._captured = form, _capture(self.module, x_BCHW)
            return (self._captured[1] if form == self._captured[0] else self.module)(x_BCHW)


def _capture(net: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """``net`` for inputs like ``x``. Its statistics, its gradients and the generators stay as they are."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    gc.collect()  # torch's graphs hold themselves in a circle: those that are no longer used keep a GPU's memory until then
    on_gpu = x.device.type == "cuda"
    try:
        with torch.random.fork_rng([x.device] if on_gpu else []), torch.cuda.device(x.device) if on_gpu else nullcontext():
            around = torch.cuda.make_graphed_callables(nn.Sequential(net), (x.clone(),), allow_unused_input=True)
        forward = vars(around).pop("forward")  # holds `around` until torch 2.13: a circle would keep the GPU's memory

        def replay(x: Tensor, _held: object = around) -> Tensor:  # from torch 2.15 on, `forward` holds it weakly
            return forward(x)

        return replay
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = f"{type(net).__name__} cannot be captured as a CUDA graph ({in_short(error)})"
        raise InputError(f"GEE_CUDA_GRAPHS = 1: {reason}", "unset it") from None
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)


def ungraphed(net: nn.Module) -> nn.Module:
    """The network itself, of a ``GraphedNetwork``; any other as it is."""
    return net.module if isinstance(net, GraphedNetwork) else net
