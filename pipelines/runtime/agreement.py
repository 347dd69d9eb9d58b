"""What processes that compute together compare before they begin: of unlike ones the results would drift apart unseen."""

import functools
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gee_core.errors import InputError
from gee_core.rank import Rank
from gee_core.settings import CoreSettings
from pipelines.runtime.process_tree import started_by_command
from pipelines.runtime.resume_folder import at_work_in

if TYPE_CHECKING:  # loads torch
    from torch.distributed.distributed_c10d import Store

    from gee_core.hardware import Compute

FOREVER = timedelta(days=1000)


class Trait(NamedTuple):
    """What the rounding of a process depends on, as the message of a difference says it."""

    verb: str
    value: str
    remedy: str


def traits(compute: "Compute") -> list[Trait]:
    """Of this process, which computes on ``compute``."""
    import torch

    from gee_core.hardware import kind_of_cpu

    on_gpu = compute.device.type == "cuda"
    kind = torch.cuda.get_device_name(compute.device) if on_gpu else f"a CPU of kind {kind_of_cpu()}"
    return [
        Trait("computes", f"on {kind}", "use machines of one kind, and one base.device"),
        Trait("computes", f"in {str(compute.dtype).removeprefix('torch.')}", "set base.precision to fp32 or bf16"),
        Trait("has", f"torch {torch.__version__}", "install one release"),
        *(Trait("has", f"{name} = {value}", "set it to one value") for name, value in CoreSettings.read().rounding().items()),
    ]


@functools.cache  # the first process serves it as long as it lives
def common_store() -> "Store":
    """What all processes can write to and read, before and while they are connected."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    return PrefixStore("gee", next(rendezvous("env://"))[0])


def check_alike(rank: Rank, own: Sequence[Trait], store: "Store") -> None:
    """Raise an InputError with a line for each trait that a process does not have in common with the first."""
    store.set(f"traits/{rank.number}", json.dumps([platform.node(), [trait.value for trait in own]]))
    found = [json.loads(store.get(f"traits/{number}")) for number in range(rank.of)]
    (first_host, first), lines = found[0], []
    for place, (verb, _, remedy) in enumerate(own):
        others = [(number, host, its[place]) for number, (host, its) in enumerate(found) if its[place] != first[place]]
        if others:
            named = ", ".join(f"{number} (on {host})" for number, host, value in others if value == others[0][2])
            lines.append(f"process {named} {verb} {others[0][2]}, process 0 (on {first_host}) {first[place]}: {remedy}")
    with said_once(rank):
        if lines:
            raise InputError("\n".join(lines))


def check_same(rank: Rank, digest: str) -> None:
    """Raise an InputError where a process has another ``digest`` of params, inputs and code than the first."""
    if rank.of == 1:
        return
    from gee_core.training.processes import from_all

    found = from_all((platform.node(), digest), rank)
    others = [f"{number} (on {host})" for number, (host, its) in enumerate(found) if its != found[0][1]]
    with said_once(rank):
        if others:
            raise InputError(
                f"process {', '.join(others)} has other params, inputs or code than process 0 (on {found[0][0]})",
                "start all of them in the same folder, or in copies of it with the same files",
            )


def check_share(rank: Rank, batch_size: int) -> None:
    """Raise an InputError where a process would have no image of some batch of ``batch_size``."""
    with said_once(rank):
        check_reach(rank.of, batch_size, f"{rank.of} processes")


def check_reach(n: int, batch_size: int, name: str) -> None:
    """Raise an InputError where batches of ``batch_size`` do not reach for ``n`` processes, in the message ``name``."""
    if n > max(1, batch_size // 2):  # the last batch of an epoch is at least half as large as the others
        problem = f"{name}: batches of {batch_size}, of which the last of an epoch may be half, do not reach for all"
        raise InputError(problem, f"set train.batch_size to {2 * n} or more, or fewer processes")


@contextmanager
def at_work_together(rank: Rank, folder: Path) -> Iterator[None]:
    """`at_work_in` ``folder``, which the first process holds for all; the others wait until it does, however long."""
    if rank.number:
        common_store().wait(["at work"], FOREVER)  # not by torch's process group, where waiting has an end
        yield
        return
    with at_work_in(folder):
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
