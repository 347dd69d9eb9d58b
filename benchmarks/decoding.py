"""What growing W from its genes costs, beside the convolution that uses it: over genes and channels.

    python -m benchmarks.decoding [--json] [--size 16] [--batch 32] [--rounds 5]

A layer of C channels to C, 3x3, on T = 4 steps of a batch, bf16, channels-last, forward and backward; its convolution and the
growth of its weight are timed in turn. Printed for each pair (C, g): the growth's share of both, its share of the
multiply-accumulates of one image's inference, and the ratio of the layer's genetic parameters to its plain weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F

from benchmarks.arguments import positive_int
from gee_core.genome.weight import decode_conv, decode_macs
from gee_core.memory import keep_freed_memory

CHANNELS = (32, 64, 128, 256, 512)
GENES = (16, 32, 64, 128, 256)
T = 4
Key = TypeVar("Key", bound=Hashable)


def convolution(channels: int, size: int, batch: int) -> Callable[[], object]:
    """The layer's convolution, forward and backward, on spikes."""
    x = (torch.rand(T * batch, channels, size, size) < 0.2).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    W = torch.randn(channels, channels, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(F.conv2d(x, W, padding=1))
    return lambda: torch.autograd.grad(F.conv2d(x, W, padding=1), [x, W], gradient)


def growth(channels: int, n_genes: int) -> Callable[[], object]:
    """W from its genes, and their gradients from W's."""
    O_GG = torch.randn(n_genes, n_genes).requires_grad_()
    X_in_KIG, X_out_KJG = (torch.randn(9, channels, n_genes).requires_grad_() for _ in range(2))
    gradient = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)

    def grow() -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            W = decode_conv(X_in_KIG, O_GG, X_out_KJG, (3, 3))
        return torch.autograd.grad(W, [X_in_KIG, O_GG, X_out_KJG], gradient.to(W.dtype))

    return grow


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


def measure(size: int, batch: int, rounds: int) -> list[dict]:
    """One row per pair of channels and genes."""
    rows = []
    for channels in CHANNELS:
        steps: dict[str | int, Callable[[], object]] = {g: growth(channels, g) for g in GENES}
        steps["conv"] = convolution(channels, size, batch)
        seconds = medians(steps, rounds)
        macs = T * 9 * channels**2 * size**2
        for n_genes in GENES:
            grown = decode_macs(9, channels, channels, n_genes)
            rows.append(
                {
                    "channels": channels,
                    "genes": n_genes,
                    "share_of_time": round(seconds[n_genes] / (seconds[n_genes] + seconds["conv"]), 4),
                    "share_of_macs": round(grown / (grown + macs), 4),
                    "parameters": round(9 * channels * n_genes / (9 * channels**2), 3),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=positive_int, default=16, help="side of the feature maps, in pixels")
    parser.add_argument("--batch", type=positive_int, default=32)
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    rows = measure(arguments.size, arguments.batch, arguments.rounds)
    print("  ".join(f"{name:>13}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>13}" for value in row.values()))
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "size": arguments.size, "batch": arguments.batch, "rows": rows}))


if __name__ == "__main__":
    main()
