"""Training in several processes that `torch.distributed` connects: their exchanges. One process alone exchanges nothing."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gee_core.compute import Compute
from gee_core.rank import Rank

Value = TypeVar("Value")


def parallel(net: nn.Module, compute: Compute) -> nn.Module:
    """``net`` as ``train_epoch`` takes it: itself, or one that averages all gradients and starts at the first's parameters."""
    if compute.rank.of == 1:
        return net
    devices = [compute.device] if compute.device.type == "cuda" else None
    # Own networks may hold parameters that get no gradient. And without the search for them, a walk over each step's graph, DDP
    # orders its buckets anew after the first step of a process: three or more would add their gradients in another order from
    # then on, and a resumed run would not end in the same bytes.
    return DistributedDataParallel(net, device_ids=devices, find_unused_parameters=True)


def bare(net: nn.Module) -> nn.Module:
    """The network that ``parallel`` was given."""
    return net.module if isinstance(net, DistributedDataParallel) else net


def summed(x: Tensor, rank: Rank) -> Tensor:
    """``x``, in place, added up over all processes."""
    if rank.of > 1:
        dist.all_reduce(x)
    return x


def from_all(value: Value, rank: Rank) -> list[Value]:
    """``value`` of every process, in all of them: tensors and what can be pickled."""
    values = [value]
    if rank.of > 1:
        values *= rank.of
        dist.all_gather_object(values, value)
    return values


def whole_batches(shares: Sequence[Tensor], rank: Rank) -> Tensor:
    """(N, …) of all images in order, from this process's ``shares`` (B, …) of each batch."""
    batches = zip(*from_all(list(shares), rank), strict=True)
    return torch.cat([share for batch in batches for share in batch])


def share_statistics(net: nn.Module, rank: Rank) -> None:
    """Give all processes the running statistics of the first."""
    if rank.of > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)
