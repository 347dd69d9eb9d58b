"""A training step (forward and backward) against SpikingJelly's and against the bare convolutions, interleaved in one run.

    python -m benchmarks.training_step [--json] [--case small] [--rounds 5]

Contenders, all the same ResNet-19 (or CIFARNet) on the same images, with pre-activation blocks unless the case says `post`:
    spikingjelly_default  SpikingJelly's multi-step neurons, float32, contiguous layout
    spikingjelly_best     the same neurons, in the format that `base.precision` = auto chooses here, channels-last
    plain, genetic        this library, in that format, channels-last
    conv_floor            the convolutions alone, forward and backward, in that format, in the faster layout per layer

That format is bf16, or float32 where the processor does not multiply bf16.
"""

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.compute import Compute, cpu_name
from gee_core.model.network import build_network
from gee_core.settings import keep_freed_memory
from gee_core.snn.lif import ILIF, LIF

CASES: dict[str, dict] = {
    "small": {"name": "resnet19", "width": 0.25, "n_genes": 32, "batch": 64},
    "full": {"name": "resnet19", "width": 1.0, "n_genes": 100, "batch": 32},
    "small_post": {"name": "resnet19", "width": 0.25, "n_genes": 32, "batch": 64, "block": "post"},
    "full_post": {"name": "resnet19", "width": 1.0, "n_genes": 100, "batch": 32, "block": "post"},
    "ilif": {"name": "cifarnet", "width": 0.25, "n_genes": 50, "batch": 128, "neuron": "ilif", "levels": 4, "T": 1},
    "cifarnet": {"name": "cifarnet", "width": 0.25, "n_genes": 32, "batch": 64},
}
CONTENDERS = ("spikingjelly_default", "spikingjelly_best", "plain", "genetic", "conv_floor")
Key = TypeVar("Key")


def medians(steps: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, float]:
    """Seconds of each step: the median of interleaved rounds after a warm-up."""
    seconds: dict[Key, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronised(step: Callable[[], object], device: str) -> Callable[[], object]:
    """``step``, which returns when the device has done its work."""

    def synchronised_step() -> None:
        step()
        torch.cuda.synchronize()

    return step if device == "cpu" else synchronised_step


class SpikingJellyLIF(LIF):
    """``LIF`` by SpikingJelly's own multi-step path."""

    is_standard = False


class SpikingJellyILIF(ILIF):
    """``ILIF`` by SpikingJelly's own multi-step path."""

    is_standard = False


def use_spikingjelly(net: nn.Module, contiguous: bool) -> None:
    """Let all neurons of ``net`` run SpikingJelly's own multi-step path; ``contiguous``: network and input in that layout."""
    for module in net.modules():
        if isinstance(module, LIF):
            module.__class__ = SpikingJellyLIF
        elif isinstance(module, ILIF):
            module.__class__ = SpikingJellyILIF
    if contiguous:
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.data = tensor.data.contiguous()
        net.register_forward_pre_hook(lambda net, args: (args[0].contiguous(),))


def build_case(case: dict, n_genes: int | None, device: str) -> nn.Module:
    """The network of a case, untrained."""
    settings = {key: value for key, value in case.items() if key not in ("name", "width", "n_genes", "batch")}
    return build_network(case["name"], 10, 3, 32, n_genes, case["width"], **settings).train().to(device)


def network_step(case: dict, contender: str, device: str = "cpu") -> Callable[[], None]:
    """One forward and backward pass of a contender that is a whole network."""
    net = build_case(case, case["n_genes"] if contender == "genetic" else None, device)
    default = contender == "spikingjelly_default"
    if contender.startswith("spikingjelly"):
        use_spikingjelly(net, contiguous=default)
    x, labels = torch.randn(case["batch"], 3, 32, 32).to(device), torch.randint(0, 10, (case["batch"],)).to(device)
    if not default:
        x = x.contiguous(memory_format=torch.channels_last)
    compute = Compute.of(device, "fp32" if default else "auto")

    def step() -> None:
        with compute.autocast():
            logits = net(x).mean(0).float()
        F.cross_entropy(logits, labels).backward()
        net.zero_grad(set_to_none=True)

    return step


def convolutions(case: dict, device: str = "cpu") -> list[tuple[nn.Conv2d, torch.Size]]:
    """Every convolution of a case's network and the shape of its input, in order."""
    net, shapes = build_case(case, None, device), list[tuple[nn.Conv2d, torch.Size]]()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, args, y: shapes.append((conv, args[0].shape)))
    with torch.no_grad():
        net(torch.randn(case["batch"], 3, 32, 32).to(device))
    return shapes


def conv_floor_step(case: dict, device: str = "cpu") -> Callable[[], object]:
    """Every convolution of the network, forward and backward, on tensors of its own."""
    steps = [_fastest_conv(conv, shape, device) for conv, shape in convolutions(case, device)]
    return lambda: [step() for step in steps]


def _fastest_conv(conv: nn.Conv2d, shape: torch.Size, device: str) -> Callable[[], None]:
    steps, dtype = {}, Compute.of(device).dtype
    for layout in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(shape).to(device, dtype).contiguous(memory_format=layout).requires_grad_(shape[1] > 3)
        W = conv.weight.detach().to(dtype).contiguous(memory_format=layout).requires_grad_()
        grad = torch.randn_like(F.conv2d(x, W, None, conv.stride, conv.padding))

        def step(x: Tensor = x, W: Tensor = W, grad: Tensor = grad) -> None:
            y = F.conv2d(x, W, None, conv.stride, conv.padding)
            torch.autograd.grad(y, [x, W] if x.requires_grad else [W], grad)

        steps[layout] = step
    seconds = medians({layout: synchronised(step, device) for layout, step in steps.items()}, 2)
    return steps[min(seconds, key=lambda layout: seconds[layout])]


def make_step(case: dict, contender: str, device: str = "cpu") -> Callable[[], object]:
    """The step of any contender, which on a GPU returns before the work is done."""
    return conv_floor_step(case, device) if contender == "conv_floor" else network_step(case, contender, device)


def peak_memory(case_name: str, contender: str) -> float:
    """Peak MiB that a step adds to a fresh process that has run one step already."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--case", case_name, "--memory-of", contender]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _own_peak_memory(case: dict, contender: str) -> float:
    step = make_step(case, contender)
    step()  # compiled by now
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status_mib("VmRSS")
    step()
    return _status_mib("VmHWM") - before


def _status_mib(key: str) -> float:
    # Not getrusage, in which a process inherits the peak of its parent.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def measure(case_name: str, rounds: int) -> dict:
    """Median seconds and peak memory of every contender, and the ratios between them."""
    case = CASES[case_name]
    steps = {contender: make_step(case, contender) for contender in CONTENDERS}
    seconds = medians(steps, rounds)
    memory = {contender: peak_memory(case_name, contender) for contender in CONTENDERS if contender != "conv_floor"}
    return {
        "images_per_second": {contender: round(case["batch"] / value, 1) for contender, value in seconds.items()},
        "memory_mib": {contender: round(value) for contender, value in memory.items()},
        "vs_spikingjelly_default": round(seconds["spikingjelly_default"] / seconds["genetic"], 2),
        "vs_spikingjelly_best": round(seconds["spikingjelly_best"] / seconds["genetic"], 2),
        "genetic_over_plain": round(seconds["genetic"] / seconds["plain"], 3),
        "over_conv_floor": round(seconds["genetic"] / seconds["conv_floor"], 2),
        "memory_over_spikingjelly_default": round(memory["genetic"] / memory["spikingjelly_default"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--memory-of", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.memory_of:
        print(_own_peak_memory(CASES[arguments.case[0]], arguments.memory_of))
        return
    results: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": cpu_name()}
    results["precision"] = Compute.of("cpu").number_format
    for name in arguments.case or CASES:
        results[name] = measured = measure(name, arguments.rounds)
        print(f"\n{name}: {CASES[name]}")
        for key, value in measured.items():
            print(f"  {key:34} {value}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
