"""Stage robustness: measures the accuracy of the trained network on noisy test images, and with the defects of hardware."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch

from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.prepared import Prepared
from gee_core.evaluation.hardware_noise import OF_BITS, disturb, unfit
from gee_core.evaluation.noise import NOISE_OF_EVENTS, noisy_input
from gee_core.model.base import SpikingNetwork
from gee_core.seeding import torch_generator
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.storage.csv_rows import csv_text
from gee_core.training.loop import accuracy_and_loss, for_inference
from gee_core.training.processes import summed
from pipelines.measuring import measuring
from pipelines.project.paths import REPORTS

OUT = REPORTS / "robustness"


Row = dict[str, Any]
"""Of noise.csv: domain, r, seed and accuracy. Of hardware.csv: `HARDWARE`."""
HARDWARE = ("domain", "strength", "draw", "accuracy")


def run(
    params: Params,
    net: SpikingNetwork,
    data: Prepared,
    compute: Compute,
    on_step: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Measure ``net``. Returns a row (domain, r, seed, accuracy) per kind of noise, strength and noise seed.

    ``compute`` has the part of this process where several measure together.
    """
    cfg = params.robustness
    plain, test = for_inference(net), data.test.to(compute.device)
    clip = data.meta.events.clip if data.meta.events else 255

    def accuracy(domain: str, r: float, seed: int) -> float:
        generator = torch_generator(params.base.seed, "noise", seed)  # the same noise at every strength
        correct = torch.zeros((), dtype=torch.float64, device=compute.device)
        for batch, (images, labels) in enumerate(test.batches(cfg.batch_size, rank=compute.rank)):
            place = compute.rank.place(min(cfg.batch_size, len(test) - batch * cfg.batch_size))
            x = noisy_input(images, data.meta.normalise, r, domain, generator, place, clip)
            if len(images):
                with torch.no_grad(), compute.autocast():
                    logits = plain(x).float().mean(0)
                correct += (logits.argmax(1) == labels).sum()
        return summed(correct, compute.rank).item() / len(test)

    rows: list[Row] = []
    for domain, r, seed in product(noise_domains(params), cfg.strengths, range(cfg.n_seeds)):
        known = r == 0 and bool(rows)  # without noise, all seeds give the same images; 0 is the first strength
        measured = rows[0]["accuracy"] if known else accuracy(domain, r, seed)
        rows.append({"domain": domain, "r": r, "seed": seed, "accuracy": measured})
        on_step()
    return rows


def noise_domains(params: Params) -> tuple[str, ...]:
    """The kinds of noise that are measured: `robustness.domain`, of recordings all of them."""
    return NOISE_OF_EVENTS if params.robustness.domain == "events" else (params.robustness.domain,)


def run_hardware(
    params: Params,
    net: SpikingNetwork,
    data: Prepared,
    compute: Compute,
    on_step: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Measure ``net`` with the defects of hardware. Returns a row per domain, strength and draw.

    Domains that do not exist for ``net`` are left out. ``compute``: as of ``run``.
    """
    cfg = params.robustness
    if cfg.hardware is None:
        return []
    images = data.test
    if cfg.hardware.max_images is not None and cfg.hardware.max_images < len(images):
        order = torch.randperm(len(images), generator=torch_generator(0, "hardware", "images"))
        images = images.subset(order[: cfg.hardware.max_images].sort().values)
    images, known, rows = images.to(compute.device), dict[object, float](), list[Row]()
    for domain, strengths in hardware_domains(params, net)[0].items():
        for strength in strengths:
            for draw in range(cfg.hardware.n_draws):
                # without the defect, all draws and all domains but those of bits have the same network
                same = (domain, strength, draw) if strength > 0 else (domain if domain in OF_BITS else None,)
                if same not in known:
                    faulty = disturb(net, domain, strength, params.base.seed, draw)
                    known[same], _ = accuracy_and_loss(faulty, images, cfg.batch_size, data.meta.normalise, compute)
                rows.append(dict(zip(HARDWARE, (domain, strength, draw, known[same]), strict=True)))
                on_step()
    return rows


def hardware_domains(params: Params, net: SpikingNetwork) -> tuple[dict[str, list[float]], dict[str, str]]:
    """By domain of `robustness.hardware`: the strengths where it exists for ``net``, and the reason where it does not."""
    strengths = {} if params.robustness.hardware is None else params.robustness.hardware.strengths()
    reasons = {domain: reason for domain in strengths if (reason := unfit(net, domain))}
    return {domain: values for domain, values in strengths.items() if domain not in reasons}, reasons


def mean_accuracy(rows: list[Row], *columns: str) -> dict[tuple[Any, ...], float]:
    """Accuracy by ``columns``, averaged over the draws."""
    draws: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        draws.setdefault(tuple(row[column] for column in columns), []).append(row["accuracy"])
    return {key: float(np.mean(accuracies)) for key, accuracies in draws.items()}


def metrics(noise: list[Row]) -> dict[str, float]:
    """Accuracy at the paper's noise strength, and without noise."""
    mean = mean_accuracy(noise, "r")
    return {"noise_accuracy": mean[0.5,], "clean_accuracy": mean[0.0,]}


def main() -> None:
    with measuring("robustness") as (s, net, data, compute):
        cfg = s.params.robustness
        domains, left_out = hardware_domains(s.params, net)
        n_hardware = cfg.hardware.n_draws * sum(map(len, domains.values())) if cfg.hardware else 0
        with s.progress("robustness", len(noise_domains(s.params)) * len(cfg.strengths) * cfg.n_seeds + n_hardware) as steps:
            noise = run(s.params, net, data, compute, steps)
            hardware = run_hardware(s.params, net, data, compute, steps)
        if s.follows:
            return
        write_atomically(OUT / "noise.csv", csv_text(noise))
        write_atomically(OUT / "hardware.csv", csv_text(hardware, HARDWARE))
        measured = metrics(noise)
        write_json(OUT / "metrics.json", {**measured, "hardware_left_out": left_out})
        for (r,), accuracy in mean_accuracy(noise, "r").items():
            s.run.point(round(100 * r), {"accuracy_at_r": accuracy})
        by_defect = mean_accuracy(hardware, "domain", "strength").items()
        measured |= {f"hardware/{domain}/{strength:g}": accuracy for (domain, strength), accuracy in by_defect}
        s.run.note(metrics=measured)


if __name__ == "__main__":
    main()
