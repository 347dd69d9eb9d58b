"""Stage robustness: measures the accuracy of the trained network on noisy test images."""

from collections.abc import Callable

import numpy as np
import torch

from gee_core.config import Params
from gee_core.data.prepared import Prepared
from gee_core.evaluation.noise import noisy_input
from gee_core.hardware import WORTH_SHARING, Compute, set_threads
from gee_core.model.network import SpikingNetwork
from gee_core.model.wired import largest_activation
from gee_core.seeding import torch_generator
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.storage.csv_rows import csv_text
from gee_core.training.loop import for_inference
from pipelines.inputs.prepared_images import prepared_images
from pipelines.inputs.trained_network import load_trained
from pipelines.project.paths import REPORTS
from pipelines.runtime.process_tree import leave
from pipelines.stage import stage

OUT = REPORTS / "robustness"


def run(params: Params, net: SpikingNetwork, data: Prepared, on_step: Callable[[], None] = lambda: None) -> list[dict]:
    """Measure ``net``; returns one row (domain, r, seed, accuracy) per noise strength and noise seed."""
    cfg = params.robustness
    compute = Compute.of(params.base.device, params.base.precision)
    plain, test = for_inference(net), data.test.to(compute.device)

    def accuracy(r: float, seed: int) -> float:
        generator = torch_generator(params.base.seed, "noise", seed)  # the same noise at every strength
        correct = 0
        for images, labels in test.batches(cfg.batch_size):
            x = noisy_input(images, data.meta.normalise, r, cfg.domain, generator)
            with torch.no_grad(), compute.autocast():
                logits = plain(x).mean(0)
            correct += (logits.argmax(1) == labels).sum().item()
        return correct / len(test)

    rows = []
    for r in cfg.strengths:
        for seed in range(cfg.n_seeds):
            known = r == 0 and seed > 0  # without noise, all seeds give the same images
            measured = rows[-1]["accuracy"] if known else accuracy(r, seed)
            rows.append({"domain": cfg.domain, "r": r, "seed": seed, "accuracy": measured})
            on_step()
    return rows


def mean_accuracy(noise: list[dict]) -> dict[float, float]:
    """Accuracy by noise strength r, averaged over the noise seeds."""
    by_strength: dict[float, list[float]] = {}
    for row in noise:
        by_strength.setdefault(row["r"], []).append(row["accuracy"])
    return {r: float(np.mean(accuracies)) for r, accuracies in by_strength.items()}


def metrics(noise: list[dict]) -> dict:
    """Accuracy at the paper's noise strength, and at the lowest configured one (r = 0 by default)."""
    mean = mean_accuracy(noise)
    return {"noise_accuracy": mean[0.5], "clean_accuracy": mean[min(mean)]}


def main() -> None:
    with stage("robustness") as s:
        data = prepared_images()
        set_threads(largest_activation(s.params.network, data.meta, s.params.robustness.batch_size), WORTH_SHARING)
        net = load_trained(s.params, data.meta).to(Compute.of(s.params.base.device).device)
        cfg = s.params.robustness
        s.track.dataset(data.meta, "testing")
        s.track.params(cfg.model_dump())
        with s.progress("robustness", len(cfg.strengths) * cfg.n_seeds) as steps:
            noise = run(s.params, net, data, steps)
        write_atomically(OUT / "noise.csv", csv_text(noise))
        measured = metrics(noise)
        write_json(OUT / "metrics.json", measured)
        for r, accuracy in mean_accuracy(noise).items():
            s.track.metrics({"accuracy_at_r": accuracy}, step=round(100 * r))
        s.track.metrics(measured)


if __name__ == "__main__":
    main()
    leave()
