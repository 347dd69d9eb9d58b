"""Part `training_step` of ``benchmarks.gpu``: a training step of every contender on a device, in turn, and the ratios.

Contenders, all the same network on the same images, bf16 autocast and channels-last:
    genetic, plain        this library
    spikingjelly_torch    SpikingJelly's multi-step neurons, in operations of torch
    spikingjelly_triton   the same neurons in its Triton kernels, on a GPU
    spikingjelly_cuda     the same in its own CUDA kernels, on a GPU, where they were built; they took the place of CuPy's
    conv_floor            the convolutions alone
"""

import contextlib
import gc
from collections import defaultdict
from collections.abc import Callable, Iterator
from unittest import mock

import torch

from benchmarks.training_step import make_step, medians, synchronised
from gee_core.errors import in_short

SPIKINGJELLY = "spikingjelly_"
IMPLEMENTATIONS = ("torch", "triton", "cuda")
"""Of SpikingJelly's neurons on a GPU, by the names that SJ_LIF_CUDA_IMPLEMENTATION has."""

_chosen: dict[str, dict] = defaultdict(dict)
"""What SpikingJelly keeps of its choices, by the implementation that it was asked for."""


@contextlib.contextmanager
def implementation(name: str) -> Iterator[None]:
    """SpikingJelly's LIF runs its implementation ``name`` on a GPU.

    SpikingJelly reads SJ_LIF_CUDA_IMPLEMENTATION once per process, and contenders have to take turns in one.
    """
    from spikingjelly._ops.lif import _selection

    with mock.patch.multiple(_selection, _requested=name, _selections=_chosen[name]):
        yield


def contenders(device: str) -> tuple[str, ...]:
    """The names of all contenders on ``device``: a CPU knows one implementation of SpikingJelly's."""
    cuda = device == "cuda"
    theirs = (SPIKINGJELLY + name for name in IMPLEMENTATIONS[: None if cuda else 1])
    return "genetic", "plain", *theirs, "conv_floor"


def timed_step(case: dict, name: str, device: str, repeats: int) -> Callable[[], object]:
    """``repeats`` steps of a contender, and the wait for the device."""
    step = make_step(case, name, device)

    def steps() -> None:
        with implementation(name.removeprefix(SPIKINGJELLY)) if name.startswith(SPIKINGJELLY) else contextlib.nullcontext():
            for _ in range(repeats):
                step()

    return synchronised(steps, device)


def measure(case: dict, device: str, rounds: int, repeats: int) -> dict:
    """Images per second and, on a GPU, the memory that a step adds, of every contender; ratios; who is left out, and why.

    There is also `failed` if the genetic network is left out.
    """
    steps, memory, left_out = {}, {}, {}
    for name in contenders(device):
        step: Callable[[], object] | None = None
        gc.collect()  # of a contender that is left out: circles keep a GPU's memory
        try:
            step = timed_step(case, name, device, repeats)
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            step()  # compiles
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                step()
                memory[name] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
        except Exception as error:  # Triton's derive from nothing else
            left_out[name] = f"{type(error).__name__}: {in_short(error)}"
        else:
            steps[name] = step
    seconds = {name: value / repeats for name, value in medians(steps, rounds).items()}
    rates = {name: round(case["batch"] / value, 1) for name, value in seconds.items()}
    failed = {"failed": left_out["genetic"]} if "genetic" in left_out else {}
    return {"case": case, "images_per_second": rates, "memory_mib": memory, "left_out": left_out} | ratios(seconds) | failed


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Of the seconds of contenders, those that docs/PERFORMANCE.md has; without those whose contenders failed."""
    theirs = {name: value for name, value in seconds.items() if name.startswith(SPIKINGJELLY)}
    if "genetic" not in seconds:
        return {}
    found = {f"vs_{name}": round(value / seconds["genetic"], 2) for name, value in theirs.items()}
    if theirs:
        found["vs_best_of_spikingjelly"] = round(min(theirs.values()) / seconds["genetic"], 2)
    if "plain" in seconds:
        found["genetic_over_plain"] = round(seconds["genetic"] / seconds["plain"], 3)
    if "conv_floor" in seconds:
        found["over_conv_floor"] = round(seconds["genetic"] / seconds["conv_floor"], 2)
    return found
