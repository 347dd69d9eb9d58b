"""A stage in several processes that `torchrun` started to train one network together, on any number of machines.

Before they begin they compare what their results depend on: of unlike ones these would drift apart unseen.
"""

import functools
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from gee_core.config.params import BaseConfig
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import CoreSettings
from pipelines.runtime.process_tree import is_rank

if TYPE_CHECKING:  # loads torch
    from torch.distributed.distributed_c10d import Store

    from gee_core.compute import Compute


def this_rank() -> Rank:
    """Which of several processes this one is."""
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_rank() else ALONE


@contextmanager
def joined(base: BaseConfig) -> Iterator["Compute"]:
    """Context in which this process computes together with the others, if there are any; yields its device and its part."""
    import torch
    import torch.distributed as dist

    from gee_core.compute import Compute, cpu_kind, set_up_gpu

    rank = this_rank()
    device = base.device if rank.of == 1 else _own_device(base.device)
    compute = replace(Compute.of(device, base.precision), rank=rank)
    set_up_gpu(compute.device)
    if rank.of == 1:
        yield compute
        return
    remedy = "use machines of one kind with one torch, set base.precision to fp32 or bf16, and the same variables"
    on_gpu = compute.device.type == "cuda"
    rounding = {
        "device": torch.cuda.get_device_name(compute.device) if on_gpu else f"CPU of kind {cpu_kind()}",
        "number format": compute.number_format,
        "torch": torch.__version__,
        **CoreSettings.read().rounding(),
    }
    check_alike(rank, rounding, remedy)  # of unlike devices the connection would never be made
    dist.init_process_group("nccl" if on_gpu else "gloo", store=common_store(), rank=rank.number, world_size=rank.of)
    yield compute
    dist.destroy_process_group()  # not after an error: NCCL's can wait for processes that are in another operation for good


def _own_device(device: str) -> str:
    """The device of this one of several processes where `base.device` is ``device``: each has a GPU of its own."""
    import torch

    from gee_core.compute import Compute

    found = Compute.of(device, "fp32").device  # to find out the number format takes memory of a GPU
    if found.type != "cuda":
        return device
    own, n_gpus = Rank(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])), torch.cuda.device_count()
    n_gpus, seen = (n_gpus, f"torch sees {n_gpus}") if found.index is None else (1, f"base.device = {device} is one GPU")
    with said_once(own):
        if own.of > n_gpus:
            problem = f"{own.of} processes on {platform.node()}: each needs a GPU of its own, and {seen}"
            raise InputError(problem, f"start {n_gpus} there (--nproc-per-node)")
    return device if found.index is not None else f"cuda:{own.number}"


@functools.cache  # the first process serves it as long as it lives
def common_store() -> "Store":
    """What all processes can write to and read, before and while they are connected."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank = this_rank()
    return PrefixStore("gee", next(rendezvous("env://", rank.number, rank.of))[0])


def check_alike(
    rank: Rank,
    own: dict[str, str],
    remedy: str = "start all of them in the same folder, or in copies of it with the same files",
) -> None:
    """Raise an InputError with a line for each value of ``own`` that a process does not have in common with the first."""
    if rank.of == 1:
        return
    store, topic = common_store(), "/".join(own)
    store.set(f"{topic}/{rank.number}", json.dumps([platform.node(), own]))
    (host, first), *others = [json.loads(store.get(f"{topic}/{number}")) for number in range(rank.of)]
    lines = [
        f"process {number} (on {its_host}) has {name} = {its[name]}, process 0 (on {host}) {value}: {remedy}"
        for name, value in first.items()
        for number, (its_host, its) in enumerate(others, 1)
        if its[name] != value
    ]
    with said_once(rank):
        if lines:
            raise InputError("\n".join(lines))


@contextmanager
def at_work_together(rank: Rank, at_work: AbstractContextManager[None]) -> Iterator[None]:
    """Context that the first process enters for all: it is ``at_work`` in a folder. The others wait for it, however long."""
    if rank.number:
        common_store().wait(["at work"], timedelta(days=1000))  # not by torch's process group, where waiting has an end
        yield
        return
    with at_work:
        if rank.of > 1:
            common_store().set("at work", "")
        yield


@contextmanager
def said_once(rank: Rank) -> Iterator[None]:
    """Let an InputError, which every process meets, be the first one's to tell; the others end without a word."""
    try:
        yield
    except InputError:
        if rank.number:
            sys.exit(2)
        raise
