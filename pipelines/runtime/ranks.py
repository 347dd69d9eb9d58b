"""A stage in several processes that train one network together, started by torch's own launcher.

The command starts GEE_TRAIN_PROCESSES processes of itself, or is one of those that `torchrun` started, on any number of
machines. Those that it started itself leave what they have to say to it, so that an error is one message.
"""

import contextlib
import json
import logging
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from gee_core.config import Params
from gee_core.config.params import BaseConfig
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import PREFIX, CoreSettings
from pipelines.interruption import interrupted
from pipelines.project.params import load_params
from pipelines.runtime.agreement import check_alike, check_reach, common_store, said_once, traits
from pipelines.runtime.input_errors import known_message, print_errors, report_input_errors
from pipelines.runtime.process_tree import PARENT, die_with_parent, started_by_torch
from pipelines.runtime.settings import Settings, cpu_cores

if TYPE_CHECKING:  # loads torch
    from gee_core.hardware import Compute

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Environment variable of a process that torch's launcher started: where it leaves what stopped it."""

ENDING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
"""Signals at which torch's launcher ends the processes, and with them itself."""

LOST = re.compile("gloo/transport|NCCL")
"""In the message of an error: something went wrong with another process, such as its end."""

TOO_LONG = re.compile("timed? ?out", re.IGNORECASE)
"""In such a message: the other process was there, and did not answer."""

ENOUGH = 16
"""Least number of images that a process gets of a batch by default: batch norm takes its statistics over them."""


def this_rank() -> Rank:
    """Which of the processes of torch's launcher this one is."""
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if started_by_torch() else ALONE


def started_by_command() -> bool:
    """Whether `run_in_processes` started this process, and reports its errors."""
    return started_by_torch() and os.environ.get(PARENT) == str(os.getppid())


def n_processes(params: Params) -> int:
    """How many processes of this machine train: GEE_TRAIN_PROCESSES, by default one per GPU or `ENOUGH` images of a batch.

    Raises:
        InputError: there are not as many GPUs, or a process would have no image of some batch.
    """
    wanted, cfg = Settings.read().train_processes, params.train
    n_gpus, seen = _gpus(params.base.device)
    if wanted is None:
        return max(1, min(n_gpus, cfg.batch_size // ENOUGH))
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
    """Run the command of ``stage`` in several processes, if it is to have them; whether it did.

    Where one fails, the others end, and the command exits with its code.
    """
    if started_by_torch():
        return False
    with report_input_errors(stage):
        n = n_processes(load_params())
    if n > 1:
        _run_processes(stage, n)
    return n > 1


def _run_processes(stage: str, n: int) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    die_with_parent()
    logging.disable()  # the launcher's messages: this process only waits, and says itself what happened
    os.environ[PARENT] = str(os.getpid())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # names that it cannot resolve
    os.environ.setdefault(f"{PREFIX}LOADER_WORKERS", str(max(1, CoreSettings.read().loader_workers // n)))
    with tempfile.TemporaryDirectory(prefix="gee-ranks-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        config.signals_to_handle = ",".join(name for name in ENDING if not _ignored(name))  # old releases take all
        try:
            elastic_launch(config, sys.executable)("-m", f"pipelines.{stage}")
            return
        except ChildFailedError as error:
            code = _report(stage, n, list(error.failures.values()))
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                interrupted(stage)
            elif error.sigval != signal.SIGTERM:
                name = signal.Signals(error.sigval).name
                print(f"{stage}: ended by {name}; `dvc repro` continues where it stopped", file=sys.stderr)
            code = 128 + error.sigval
    sys.exit(code)


def _ignored(name: str) -> bool:
    """Whether this process ignores the signal, as SIGHUP under `nohup`."""
    return signal.getsignal(getattr(signal, name)) is signal.SIG_IGN


def _report(stage: str, n: int, failures: list[Any]) -> int:
    """Print what stopped the processes, and return the exit code."""
    first = min(failures, key=lambda failure: (_consequence(failure), failure.timestamp))
    told, number = _told(first), _signal(first)
    if told and first.exitcode == 2:
        print_errors(stage, told["message"])
    elif told:
        print(told["extraInfo"]["py_callstack"], file=sys.stderr, end="")
    elif number:
        why = "memory may have run out; " if number == signal.SIGKILL else ""
        how = f"was ended by {signal.Signals(number).name}: {why}`dvc repro` continues where it stopped"
        print_errors(stage, f"process {first.local_rank} of {n} {how}")
    return 1 if number else first.exitcode


def _signal(failure: Any) -> int:
    """The signal that ended a process, 0 for none. On SIGTERM the first process cleans up before it exits."""
    return signal.SIGTERM if failure.exitcode == 128 + signal.SIGTERM else max(0, -failure.exitcode)


def _consequence(failure: Any) -> int:
    """How likely it is that a process failed only because another did: 0 is least.

    The launcher ends the others by SIGTERM; that may come while a process is already ending by itself.
    """
    if told := _told(failure):
        return 4 if LOST.search(told["message"]) and not TOO_LONG.search(told["message"]) else 0
    return {0: 2, signal.SIGTERM: 3}.get(_signal(failure), 1)


def _told(failure: Any) -> dict[str, Any] | None:
    """What ``errors_for_command`` left of a process; None of one that left nothing, where the launcher puts a text."""
    told = failure.error_file_data.get("message")
    return told if isinstance(told, dict) else None


@contextmanager
def errors_for_command() -> Iterator[None]:
    """Leave an error of the body to the command that started this process, and exit with the code that it has there."""
    try:
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher sends it to all: it would interrupt what runs at exit
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        known = known_message(error)
        about = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time()))}
        text = json.dumps({"message": {"message": known or str(error), "extraInfo": about}})
        Path(os.environ[ERROR_FILE]).write_text(text, encoding="utf-8")
        sys.exit(1 if known is None else 2)


def follow() -> None:
    """Let a process that has nothing to clean up end at once when it is stopped."""
    for name in ("SIGTERM", "SIGINT"):
        if not _ignored(name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _share_cpus() -> None:
    """Give torch this process's share of the CPUs that it may use, unless the user set OMP_NUM_THREADS.

    `torchrun` sets it to 1 itself: what the user set is what the launcher was started with.
    """
    import torch

    with contextlib.suppress(psutil.Error):
        if "OMP_NUM_THREADS" in psutil.Process(os.getppid()).environ():
            return
    torch.set_num_threads(max(1, cpu_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))


def _own_device(device: str) -> str:
    """The device of this one of several processes where `base.device` is ``device``; a GPU is torch's current one from now on.

    Raises:
        InputError: the machine has too few GPUs. All its processes but the first end without a word.
    """
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
    """Context in which this process computes together with the others, if there are any; yields its device and its part.

    Raises:
        InputError: `base.device` does not exist, or the processes would not round alike.
    """
    import torch.distributed as dist

    from gee_core.hardware import Compute, settle

    rank = this_rank()
    if rank.of == 1:
        compute = Compute.of(base.device, base.precision)
        settle(compute.device)
        yield compute
        return
    compute = replace(Compute.of(_own_device(base.device), base.precision), rank=rank)
    if compute.device.type == "cpu":
        _share_cpus()
    check_alike(rank, traits(compute), common_store())  # of unlike devices the connection would never be made
    dist.init_process_group("nccl" if compute.device.type == "cuda" else "gloo")
    yield compute
    dist.destroy_process_group()  # not after an error: NCCL's can wait for processes that are in another operation for good
