"""Recipes of tests: the section `train` of digits, with changes."""

from dataclasses import asdict

import torch
from torch import nn
from torch.optim import Optimizer

from gee_core.compute import Compute
from gee_core.config import TrainConfig
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.training.loop import MidEpochState, train_epoch
from gee_core.training.recipe import Recipe
from gee_core.training.resume import Resumable
from tests.gee_core.test_config import values

CFG = TrainConfig(**values()["train"])
FP32, BF16 = (Compute(torch.device("cpu"), dtype) for dtype in (torch.float32, torch.bfloat16))

AS_THEY_ARE = Normalise((0.0,), (1 / 255,))


def recipe(
    augment: Augment | None = None,
    normalise: Normalise = AS_THEY_ARE,
    compute: Compute = FP32,
    seed: int = 0,
    warmup_steps: int = 2,
    tet_phi: float = 0.0,
    **changes,
) -> Recipe:
    """Three epochs of batches of 4 at 0.01; ``changes`` are settings, which nobody checks."""
    values = {"epochs": 3, "batch_size": 4, "lr": 0.01, "lr_min": 0.0, "label_smoothing": 0.0} | changes
    cfg = CFG.model_copy(update=values | (asdict(augment) if augment else {}))
    return Recipe(cfg=cfg, normalise=normalise, compute=compute, seed=seed, warmup_steps=warmup_steps, tet_phi=tet_phi)


def train(
    net: nn.Module,
    optimizer: Optimizer,
    images: PackedImages,
    how: Recipe,
    states: Resumable,
    stop: tuple[int, int] | None = None,
) -> tuple[list[dict[str, float]], list[tuple[int, int]]]:
    """The records of all epochs, and the steps (epoch, step) taken now. A KeyboardInterrupt after the step ``stop``."""
    first, rows, mid_epoch = states.restore()
    taken = []
    for epoch in range(first, how.cfg.epochs):
        keep = states.periodic_saver(epoch, rows)

        def on_step(state: MidEpochState, epoch: int = epoch, keep=keep) -> None:
            taken.append((epoch, state.step))
            keep(state)
            if (epoch, state.step) == stop:
                raise KeyboardInterrupt

        rows.append(asdict(train_epoch(net, optimizer, images, how, epoch, mid_epoch, on_step)))
        mid_epoch = None
        states.keep(len(rows), rows)
    return rows, taken
