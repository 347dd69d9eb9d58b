"""What the presets of the paper's sizes take on GPUs, on paper: counted operations and bytes, not measured times.

    python -m benchmarks.paper_sizes [--tflops 100] [--json]

A training step of one image takes three times the multiply-accumulates of its forward pass, at two operations each; growing the
weights from the genes takes the same factor in every process, however few images that has. Hours assume ``--tflops`` sustained
per GPU in the convolutions, an assumption that `python -m benchmarks.gpu` can replace by a measurement, and nothing else: no
batch norm, neurons, optimiser, loading of images or waiting. Bytes are those of the gradients, float32, that each process
sends and receives per step in a ring. ``gb_per_s`` is the rate per direction at which that takes a tenth of the step.
"""

import argparse
import json
from types import SimpleNamespace
from typing import Any

import torch

from gee_core.evaluation.energy import measure_energy
from gee_core.model.network import count_parameters
from gee_core.model.wired import wired_network
from gee_core.training.recipe import images_per_epoch, steps_per_epoch
from pipelines.evolve import n_candidates
from pipelines.project.presets import load_preset

IMAGES = {"cifar10-paper": (50_000, 10, 32), "cifar100-paper": (50_000, 100, 32), "imagenet-paper": (1_281_167, 1000, 224)}
"""Training images, classes and pixels of the full sets."""
GPUS = (1, 4, 8)
BACKWARD = 3
"""A step's operations over those of its forward pass: both gradients of a product cost as much as the product."""


def cost(preset: str, flops: float) -> dict:
    """Counts of one preset, and what follows from ``flops`` per second and GPU."""
    params = load_preset(preset).params
    n_images, classes, pixels = IMAGES[preset]
    shape = SimpleNamespace(num_classes=classes, in_channels=3, image_size=pixels)
    net = wired_network(params.network, shape, None, 0)
    layers = measure_energy(net, torch.zeros(1, 3, pixels, pixels)).layers
    macs = sum(layer.macs * layer.steps for layer in layers)
    decode = sum(layer.decode_macs for layer in layers)
    train, evolve = params.train, params.evolve
    steps = train.epochs * steps_per_epoch(n_images, train.batch_size)
    passes = train.epochs * images_per_epoch(n_images, train.batch_size)
    proxy_images = evolve.proxy.images or round(n_images * (1 - params.prepare.holdout))
    proxy_passes = n_candidates(params) * evolve.epochs * proxy_images
    operations = 2 * BACKWARD * macs
    parameters = count_parameters(net)
    row: dict[str, Any] = {
        "preset": preset,
        "parameters": parameters,
        "macs_per_image": round(macs),
        "decode_macs": decode,
        "train_passes": passes,
        "train_exaflop": round(operations * passes / 1e18, 2),
        "evolve_passes": proxy_passes,
        "evolve_exaflop": round(operations * proxy_passes / 1e18, 2),
        "evolve_hours_1": round(operations * proxy_passes / flops / 3600, 1),
        "gpus": [],
    }
    for n in GPUS:
        per_step = 2 * BACKWARD * (macs * train.batch_size / n + decode)
        seconds = per_step / flops
        sent = 2 * (n - 1) / n * 4 * parameters
        row["gpus"].append(
            {
                "n": n,
                "train_hours": round(steps * seconds / 3600, 1),
                "growing_share": round(2 * BACKWARD * decode / per_step, 4),
                "mb_per_step": round(sent / 1e6, 1),
                "step_ms": round(1e3 * seconds, 2),
                "gb_per_s": round(sent / (0.1 * seconds) / 1e9, 1),
            }
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflops", type=float, default=100.0, help="assumed, per GPU (default: 100)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [cost(preset, 1e12 * arguments.tflops) for preset in IMAGES]
    if arguments.json:
        print(json.dumps({"assumed_tflops": arguments.tflops, "presets": rows}))
        return
    for row in rows:
        gpus = row.pop("gpus")
        print("  ".join(f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in row.items()))
        for found in gpus:
            print("    " + "  ".join(f"{key} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
