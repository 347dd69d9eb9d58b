"""Copies of networks that others have written, and how they run whatever the caller has switched on."""

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from gee_core.errors import InputError, in_short, out_of_memory


def check_module(net: object) -> None:
    """Raise TypeError where ``net`` is no network."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"the network must be a torch.nn.Module, got {net!r:.80}")


def copy_module(net: nn.Module) -> nn.Module:
    """A deep copy of ``net``. InputError where torch cannot copy it, such as neurons that hold the graph of their last run."""
    check_module(net)
    for module in net.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):  # its copy would reduce the gradients of other parameters
            raise InputError("the network is wrapped in DistributedDataParallel", "give its .module, and wrap what comes back")
    try:
        return copy.deepcopy(net)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise InputError(
            f"the network cannot be copied ({in_short(error)})",
            "reset its neurons first (spikingjelly's functional.reset_net), make weights permanent that a hook computes "
            "(prune.remove), and keep loggers and files out of its modules",
        ) from error


def check_values(net: nn.Module) -> None:
    """Raise InputError where ``net`` lies on the device `meta`, so that there is nothing to compute with or to write."""
    check_module(net)
    if any(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()]):
        problem = "the network has no numbers: it lies on the device meta"
        raise InputError(problem, "load some with load_state_dict(…, assign=True), or call its to_empty first")


@contextmanager
def running_on(x: Tensor, what: str, remedy: str) -> Iterator[None]:
    """Inside, a network runs on ``x``, which is ``what``: an error of it becomes an InputError with ``remedy``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raises = f"the network raises {type(error).__name__} on {what} of shape {tuple(x.shape)}: {in_short(error)}"
        raise InputError(raises, remedy) from error


def as_written(net: nn.Module) -> AbstractContextManager:
    """Inside, a network that `torch.compile` wraps runs eagerly, since compiled code calls no later hooks."""
    compiled = any(type(module).__name__ == "OptimizedModule" for module in net.modules())  # importing it takes a second
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, matrices on ``device`` are multiplied in their own type, for what is kept of them."""
    known = torch.amp.is_autocast_available(device.type)  # not for `meta`
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


@contextmanager
def without_logs(logger: str, below: int = logging.ERROR) -> Iterator[None]:
    """The logger of this name, and those under it, log nothing below the level ``below`` while the body runs."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(below)
    try:
        yield
    finally:
        log.setLevel(level)
