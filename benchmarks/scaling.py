"""How the cost grows: with steps, genes and depth (a training step), and with the population (CMA-ES itself).

    python -m benchmarks.scaling [--json] [--rounds 5]

Each axis is varied alone; its points are timed in turn. Printed: the cost relative to the first point, and the exponent (the
least-squares slope of log cost over log size): 1 means proportional, 0 independent.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.arguments import positive_int
from benchmarks.decoding import medians
from gee_core.evolution.search import CmaEs
from gee_core.genome.encoding import encode
from gee_core.memory import keep_freed_memory
from gee_core.model.base import to_channels_last
from gee_core.model.network import TableNetwork
from gee_core.zoo import Block, NetworkSpec

AXES = {
    "T": (2, 4, 8, 16),
    "genes": (8, 16, 32, 64, 128),
    "depth": (2, 4, 8, 16),
    "population": (10, 20, 40, 80),
}
CHANNELS, SIZE, BATCH = 32, 16, 32
SIGMAS = 18
"""σ's of ResNet-19's genotype, one per encoding and one for O."""


def training_step(T: int = 4, genes: int = 16, depth: int = 4) -> Callable[[], None]:
    """Forward and backward of a residual network of ``depth`` blocks of equal size."""
    spec = NetworkSpec(CHANNELS, (Block(CHANNELS),) * depth)
    plain = to_channels_last(TableNetwork(spec, 10, 3, SIZE, 1.0, "pre", "max", {"T": T}))
    net = encode(plain, genes, convs=plain.conv_chain()).train()
    x, labels = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last), torch.arange(BATCH) % 10

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(x).mean(0).float()
        F.cross_entropy(logits, labels).backward()
        net.zero_grad(set_to_none=True)

    return step


def generation(population: int) -> Callable[[], None]:
    """One generation of CMA-ES without the candidates' training: ask and tell."""
    bounds = (np.full(SIGMAS, -1.4), np.full(SIGMAS, 1.4))
    search = CmaEs(np.zeros(SIGMAS), 0.2, bounds, population, 0)
    return lambda: search.tell([float(x @ x) for x in search.ask()])


def measure(axis: str, rounds: int) -> dict:
    """Relative cost by size, and the exponent."""
    make = generation if axis == "population" else lambda size: training_step(**{axis: size})
    seconds = medians({size: make(size) for size in AXES[axis]}, rounds)
    sizes, costs = np.array(list(seconds)), np.array(list(seconds.values()))
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    relative = {str(size): round(cost / costs[0], 2) for size, cost in zip(sizes, costs, strict=True)}
    return {"relative": relative, "exponent": round(float(slope), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", choices=AXES, action="append", help="default: all")
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    results = {axis: measure(axis, arguments.rounds) for axis in arguments.axis or AXES}
    for axis, result in results.items():
        points = "  ".join(f"{size}: {cost:g}" for size, cost in result["relative"].items())
        print(f"{axis:11} exponent {result['exponent']:5.2f}   relative cost  {points}")
    if arguments.json:
        print(json.dumps({"torch": torch.__version__} | results))


if __name__ == "__main__":
    main()
