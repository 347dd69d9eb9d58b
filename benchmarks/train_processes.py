"""Images per second of training in several processes, each with one CPU thread, over those of one process with one thread.

    python -m benchmarks.train_processes [--processes 2] [--json] [--network cifarnet] [--width 0.25] [--genes 50] [--size 32]
        [--batch 128] [--steps 6] [--rounds 5] [--sync]

All of them train the same network on the same batches, in the number format that the machine multiplies natively. The first
process alone and all together take turns; medians over the rounds. ``independent`` is the ratio of as many runs side by side
that exchange nothing: the most there is, less than their number where cores share memory or are two threads of one core.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes

from benchmarks.arguments import positive, positive_int
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.hardware import Compute, cpu_name
from gee_core.memory import keep_freed_memory
from gee_core.model.network import build_network
from gee_core.rank import Rank
from gee_core.snn.kernels import LONG_RUN, long_run
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import parallel
from gee_core.training.recipe import Recipe
from gee_core.zoo import NETWORKS
from pipelines.project.presets import load_preset


def epoch(net: nn.Module, images: PackedImages, compute: Compute, arguments: argparse.Namespace) -> float:
    """Seconds of an epoch of ``--steps`` steps."""
    changes = {"batch_size": arguments.batch, "epochs": 1, "lr": 1e-3, "lr_min": 0.0, "label_smoothing": 0.0, "quantise": None}
    changes |= {"crop_padding": 4, "flip": True, "norm_images": None, "sizes": None, "T_schedule": None}
    cfg = load_preset("digits").params.train.model_copy(update=changes)
    recipe = Recipe(cfg=cfg, warmup_steps=0, seed=0, compute=compute, normalise=Normalise((0.5,) * 3, (0.25,) * 3))
    optimizer = make_optimizer("adamw", net, 0.01)
    start = time.perf_counter()
    with long_run(LONG_RUN):
        train_epoch(net, optimizer, images, recipe, 0)
    return time.perf_counter() - start


def process(number: int, arguments: argparse.Namespace, folder: str) -> None:
    """One of the processes; the first prints the result."""
    torch.set_num_threads(1)
    keep_freed_memory()
    n = arguments.processes
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=n)
    alone = Compute.of("cpu")
    together = replace(alone, rank=Rank(number, n))
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch * arguments.steps, 3, arguments.size, arguments.size)
    images = PackedImages(torch.randint(256, shape, dtype=torch.uint8, generator=generator), torch.arange(shape[0]) % 10)
    nets = [build_network(arguments.network, 10, 3, arguments.size, arguments.genes, arguments.width) for _ in range(2)]
    single, shared = nets[0], parallel(nets[1], together, arguments.sync)
    seconds: dict[str, list[float]] = {"one": [], "independent": [], "together": []}
    for turn in range(arguments.rounds + 1):
        found = {}
        dist.barrier()
        if number == 0:
            found["one"] = epoch(single, images, alone, arguments)
        dist.barrier()
        found["independent"] = epoch(single, images, alone, arguments)
        dist.barrier()
        found["together"] = epoch(shared, images, together, arguments)
        if turn:  # the first compiles
            for name, value in found.items():
                seconds[name].append(value)
    if number == 0:
        report(arguments, alone, {name: statistics.median(values) for name, values in seconds.items()})
    dist.barrier()
    dist.destroy_process_group()


def report(arguments: argparse.Namespace, compute: Compute, seconds: dict[str, float]) -> None:
    """Print the ratios, and what they are of."""
    n_images = arguments.batch * arguments.steps
    result = {
        "two_over_one" if arguments.processes == 2 else "over_one": round(seconds["one"] / seconds["together"], 3),
        "independent": round(arguments.processes * seconds["one"] / seconds["independent"], 3),
        "images_per_s": {name: round(n_images / value, 1) for name, value in seconds.items()},
        "settings": vars(arguments) | {"precision": compute.number_format},
        "machine": {"cpu": cpu_name(), "torch": torch.__version__},
    }
    result["images_per_s"]["independent"] = round(arguments.processes * n_images / seconds["independent"], 1)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=positive_int, default=2)
    parser.add_argument("--network", choices=NETWORKS, default="cifarnet")
    parser.add_argument("--width", type=positive, default=0.25)
    parser.add_argument("--genes", type=positive_int, default=50)
    parser.add_argument("--size", type=positive_int, default=32)
    parser.add_argument("--batch", type=positive_int, default=128)
    parser.add_argument("--steps", type=positive_int, default=6)
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--sync", action="store_true", help="synchronised batch norm")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start_processes(process, (arguments, folder), nprocs=arguments.processes, start_method="spawn")


if __name__ == "__main__":
    main()
