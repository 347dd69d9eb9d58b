"""How fast the convolutions of a training step run, pass by pass, beside a large matrix product.

    python -m benchmarks.convolutions [--json] [--case small] [--rounds 5]

For every convolution of the network, bf16 in channels-last layout: forward, the gradient of the data and that of the weights,
each as a share of the rate of a large bf16 matrix product, which measures what this processor can reach; and the weights'
gradient as a matrix product over gathered patches, the only alternative that torch offers. Rounds are interleaved; medians.
Also printed:
    share        of the convolutions' time, by pass, over the whole network
    efficiency   the whole network's share of the matrix product's rate
    headroom     speed-up of a step of convolutions alone if the weights' gradient were as fast as the forward pass
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.arguments import positive_int
from benchmarks.decoding import medians
from benchmarks.training_step import CASES, convolutions
from gee_core.memory import keep_freed_memory

PATCH_IMAGES = 4
"""Images whose patches are gathered at once: few, so that they stay in the cache."""
SQUARE = 2048
"""Side of the matrices that are multiplied."""


@dataclass(frozen=True)
class Layer:
    """A convolution and the shape of what goes into it."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int
    padding: int


def layers_of(case: dict) -> Counter[Layer]:
    """Every convolution of a case's network behind the stem, and how often it occurs."""
    return Counter(
        Layer(tuple(shape), tuple(conv.weight.shape), conv.stride[0], int(conv.padding[0]))
        for conv, shape in convolutions(case)
        if conv.in_channels > 3  # the stem gives its input no gradient
    )


def passes(layer: Layer) -> tuple[float, dict[str, Callable[[], object]]]:
    """Floating-point operations of one pass, and the passes."""
    x, W = (torch.randn(s).bfloat16().contiguous(memory_format=torch.channels_last) for s in (layer.input, layer.weight))
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    grad = torch.randn_like(F.conv2d(x, W, None, stride, padding))

    def backward(data: bool, weights: bool) -> object:
        mask = [data, weights, False]
        return torch.ops.aten.convolution_backward(grad, x, W, None, stride, padding, [1, 1], False, [0, 0], 1, mask)

    return 2.0 * grad.numel() * W[0].numel(), {
        "forward": lambda: F.conv2d(x, W, None, stride, padding),
        "data": lambda: backward(True, False),
        "weights": lambda: backward(False, True),
        "patches": lambda: gradient_by_patches(x, grad, layer),
    }


def gradient_by_patches(x: Tensor, grad: Tensor, layer: Layer) -> Tensor:
    """The gradient (C_out, C_in, k, k) of the weights, float32, as a sum of matrix products over few images each."""
    C_out, C_in, k, _ = layer.weight
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *[layer.padding] * 4)).contiguous()  # (N, H, W, C)
    grad = grad.permute(0, 2, 3, 1)
    n, row, column, channel = padded.stride()
    total = torch.zeros(C_out, k * k * C_in)
    for i in range(0, len(grad), PATCH_IMAGES):
        part = grad[i : i + PATCH_IMAGES]
        size = (*part.shape[:3], k, k, C_in)
        strides = (n, row * layer.stride, column * layer.stride, row, column, channel)
        patches = padded[i:].as_strided(size, strides).reshape(-1, k * k * C_in)
        total += part.reshape(-1, C_out).t() @ patches
    return total.view(C_out, k, k, C_in).permute(0, 3, 1, 2)


def measure(case: dict, rounds: int) -> dict:
    """Rows by layer and the totals."""
    a, b = torch.randn(2, SQUARE, SQUARE).bfloat16().unbind()
    rows: list[dict] = []
    total: dict[str, float] = defaultdict(float)
    for layer, count in layers_of(case).items():
        n_operations, steps = passes(layer)
        steps["product"] = lambda: a @ b
        median = medians(steps, rounds)
        peak = 2.0 * SQUARE**3 / median.pop("product")
        rates = {name: round(n_operations / value / peak, 2) for name, value in median.items()}
        rows.append({"input": layer.input, "weight": layer.weight, "stride": layer.stride, "count": count} | rates)
        for name, value in median.items():
            total[name] += count * value
        total["at the product's rate"] += count * 3 * n_operations / peak
    whole = total["forward"] + total["data"] + total["weights"]
    return {
        "layers": rows,
        "share": {name: round(total[name] / whole, 2) for name in ("forward", "data", "weights")},
        "patches_over_weights": round(total["patches"] / total["weights"], 2),
        "efficiency": round(total["at the product's rate"] / whole, 2),
        "headroom": round(whole / (whole - total["weights"] + total["forward"]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: small and full")
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    results: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    for name in arguments.case or ("small", "full"):
        results[name] = measure(CASES[name], arguments.rounds)
        print(f"\n{name}: share of the matrix product's rate")
        print(pd.DataFrame(results[name]["layers"]).to_string(index=False))
        for key in ("share", "patches_over_weights", "efficiency", "headroom"):
            print(f"  {key:20} {results[name][key]}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
