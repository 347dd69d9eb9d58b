"""A stage in several processes that train one network together, by torchrun's conventions: RANK, WORLD_SIZE, MASTER_ADDR, …

The command starts GEE_TRAIN_PROCESSES processes of itself, or is one of those that `torchrun` started, on any number of
machines. Before they begin they compare what their results depend on: of unlike ones these would drift apart unseen.
"""

import functools
import importlib
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from gee_core.config import Params
from gee_core.config.params import BaseConfig
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import PREFIX, CoreSettings
from pipelines.engines.engine import Tell, WorkerDied, ignore
from pipelines.engines.processes import Processes
from pipelines.project.params import load_params
from pipelines.runtime.input_errors import print_errors, report_input_errors
from pipelines.runtime.process_tree import STORE, die_with_parent, exit_on_sigterm, is_rank, started_by_command
from pipelines.runtime.settings import Settings, cpu_cores

if TYPE_CHECKING:  # loads torch
    from torch.distributed.distributed_c10d import Store

    from gee_core.hardware import Compute


def this_rank() -> Rank:
    """Which of several processes this one is."""
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_rank() else ALONE


def n_processes(params: Params) -> int:
    """How many processes of this machine train: GEE_TRAIN_PROCESSES, by default one per GPU or 16 images of a batch."""
    wanted, cfg = Settings.read().train_processes, params.train
    n_gpus, seen = _gpus(params.base.device)
    if wanted is None:
        return max(1, min(n_gpus, cfg.batch_size // 16))  # over which batch norm takes its statistics
    variable = f"{PREFIX}TRAIN_PROCESSES = {wanted}"
    if n_gpus and wanted > n_gpus:
        raise InputError(f"{variable}: each process needs a GPU of its own, and {seen}", f"set it to {n_gpus}")
    check_reach(wanted, cfg.batch_size, variable)
    return wanted


def _gpus(device: str) -> tuple[int, str]:
    """How many GPUs the processes of this machine have where `base.device` is ``device``, 0 on a CPU; why not more."""
    import torch

    from gee_core.hardware import Compute

    found = Compute.of(device, "fp32").device  # to find out the number format takes memory of a GPU
    if found.type != "cuda":
        return 0, ""
    if found.index is not None:
        return 1, f"base.device = {device} is one GPU"
    n_gpus = torch.cuda.device_count()
    return n_gpus, f"torch sees {n_gpus}"


def run_in_processes(stage: str) -> bool:
    """Run ``stage`` in several processes, if it is to have them; whether it did. The first failure ends them all."""
    if is_rank():
        return False
    with report_input_errors(stage):
        n = n_processes(load_params())
        if n > 1:
            _run_ranks(stage, n)
    return n > 1


def _run_ranks(stage: str, n: int) -> None:
    exit_on_sigterm()
    die_with_parent()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of parameters without a use in each step
    for backend in ("GLOO", "NCCL"):  # they connect within this machine
        os.environ.setdefault(f"{backend}_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ.setdefault(f"{PREFIX}LOADER_WORKERS", str(max(1, CoreSettings.read().loader_workers // n)))
    with tempfile.TemporaryDirectory(prefix="gee-") as folder, Processes(n, threads=None) as engine:
        common = {STORE: f"file://{folder}/store", "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
        jobs = [(stage, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(n)]
        for (_, env), end in engine.each(_run_rank, jobs, ignore):
            if isinstance(end, WorkerDied):
                code = end.exitcode or 0
                number = signal.SIGTERM if code == 128 + signal.SIGTERM else -code  # the first one cleans up before it exits
                by = f"by {signal.Signals(number).name}" if number > 0 else f"with code {code}"
                why = "memory may have run out; " if number == signal.SIGKILL else ""
                print_errors(stage, f"process {env['RANK']} of {n} was ended {by}: {why}`dvc repro` continues where it stopped")
                sys.exit(1)


def _run_rank(job: tuple[str, dict[str, str]], tell: Tell) -> None:
    stage, env = job
    os.environ.update(env)
    importlib.import_module(f"pipelines.{stage}").main()


def _own_device(device: str) -> str:
    """The device of this one of several processes where `base.device` is ``device``; a GPU becomes torch's current one."""
    import torch

    n_gpus, seen = _gpus(device)
    if not n_gpus:
        return device
    own = Rank(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    with said_once(own):
        if own.of > n_gpus:
            problem = f"{own.of} processes on {platform.node()}: each needs a GPU of its own, and {seen}"
            raise InputError(problem, f"start {n_gpus} there (--nproc-per-node)")
    found = device if device.startswith("cuda:") else f"cuda:{own.number}"
    torch.cuda.set_device(found)
    return found


@contextmanager
def joined(base: BaseConfig) -> Iterator["Compute"]:
    """Context in which this process computes together with the others, if there are any; yields its device and its part."""
    import torch
    import torch.distributed as dist

    from gee_core.hardware import Compute, settle

    rank = this_rank()
    if rank.of == 1:
        compute = Compute.of(base.device, base.precision)
        settle(compute.device)
        yield compute
        return
    compute = replace(Compute.of(_own_device(base.device), base.precision), rank=rank)
    if compute.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it to 1, if the user does not
        torch.set_num_threads(max(1, cpu_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    remedy = "use machines of one kind with one torch, set base.precision to fp32 or bf16, and the same variables"
    check_alike(rank, rounding(compute), remedy)  # of unlike devices the connection would never be made
    backend = "nccl" if compute.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=common_store(), rank=rank.number, world_size=rank.of)
    yield compute
    dist.destroy_process_group()  # not after an error: NCCL's can wait for processes that are in another operation for good


def rounding(compute: "Compute") -> dict[str, str]:
    """What the rounding of this process depends on, by name, where the process computes on ``compute``."""
    import torch

    from gee_core.hardware import kind_of_cpu

    on_gpu = compute.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(compute.device) if on_gpu else f"CPU of kind {kind_of_cpu()}",
        "number format": compute.number_format,
        "torch": torch.__version__,
        **CoreSettings.read().rounding(),
    }


@functools.cache  # the first process serves it as long as it lives
def common_store() -> "Store":
    """What all processes can write to and read, before and while they are connected."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank = this_rank()
    return PrefixStore("gee", next(rendezvous(os.environ.get(STORE, "env://"), rank.number, rank.of))[0])


def check_same(rank: Rank, digest: str) -> None:
    """Raise an InputError where a process has another ``digest`` of params, inputs and code than the first."""
    if rank.of > 1:
        remedy = "start all of them in the same folder, or in copies of it with the same files"
        check_alike(rank, {"params, inputs and code": digest}, remedy)


def check_alike(rank: Rank, own: dict[str, str], remedy: str) -> None:
    """Raise an InputError with a line for each value of ``own`` that a process does not have in common with the first."""
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


def check_reach(n: int, batch_size: int, name: str) -> None:
    """Raise an InputError where batches of ``batch_size`` do not reach for ``n`` processes, in the message ``name``."""
    if n > max(1, batch_size // 2):  # the last batch of an epoch is at least half as large as the others
        problem = f"{name}: batches of {batch_size}, of which the last of an epoch may be half, do not reach for all"
        raise InputError(problem, f"set train.batch_size to {2 * n} or more, or fewer processes")


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
    """Let an InputError, which every process of `torchrun` meets, be the first one's to tell; the others end without a word."""
    try:
        yield
    except InputError:
        if rank.number and not started_by_command():
            sys.exit(2)
        raise
