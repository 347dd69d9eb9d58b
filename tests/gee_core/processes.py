"""Runs a function in several processes that `torch.distributed` connects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from gee_core.compute import Compute
from gee_core.rank import Rank


def in_processes(n: int, function: Callable, folder: Path, *args: Any) -> list[Any]:
    """What ``function(compute, *args)`` returns in each of ``n`` processes; tensors and whatever torch can save."""
    mp.start_processes(_enter, (n, function, folder, args), nprocs=n, start_method="spawn")
    return [torch.load(folder / f"result-{number}", weights_only=False) for number in range(n)]


def _enter(number: int, n: int, function: Callable, folder: Path, args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=n)
    result = function(Compute(torch.device("cpu"), torch.float32, Rank(number, n)), *args)
    torch.save(result, folder / f"result-{number}")
    dist.destroy_process_group()
