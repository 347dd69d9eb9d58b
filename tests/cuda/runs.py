"""Short training runs on a device, and the images for them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gee_core.compute import Compute
from gee_core.data.augment import Augment, Normalise
from gee_core.data.image_files import as_array
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import build_network
from gee_core.training.optimizers import make_optimizer
from gee_core.training.recipe import Recipe, steps_per_epoch
from gee_core.training.resume import Resumable, training_tensors
from tests.gee_core import recipes

SIZE = 16
CLASSES = 3
AUGMENT = Augment(crop_padding=2, flip=True, randaugment=9, erasing=0.5, noise=0.5)
NORMALISE = Normalise((0.5,) * 3, (0.3,) * 3)


def network(dropout: bool = False, name: str = "resnet18") -> SpikingNetwork:
    """A small genetic network, on the CPU; without pools, whose gradients CUDA sums in any order."""
    net = build_network(name, CLASSES, 3, SIZE, 4, 1 / 16, 0, T=2)
    if dropout:
        net.head.insert(0, nn.Dropout(0.5))
    return net


def recipe(
    device: torch.device, dtype: torch.dtype = torch.float32, seed: int = 0, augment: Augment | None = AUGMENT
) -> Recipe:
    """Two epochs of batches of 16, whose images are resized."""
    compute, settings = Compute(device, dtype), {"epochs": 2, "batch_size": 16, "label_smoothing": 0.1, "sizes": [12]}
    return recipes.recipe(augment, NORMALISE, compute, seed, **settings)


def images(n: int = 96, seed: int = 0) -> PackedImages:
    """Noise, on the CPU, brighter by class."""
    labels = torch.arange(n) % CLASSES
    noise = torch.randint(0, 128, (n, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
    return PackedImages((noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels)


def streamed(folder: Path, packed: PackedImages) -> StreamedImages:
    """The same images in files below ``folder``."""
    names = [f"{i:03}.png" for i in range(len(packed))]
    for name, image in zip(names, packed.images, strict=True):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(folder / name)
    return StreamedImages(as_array(names), packed.labels, folder, SIZE, 3)


def train(
    how: Recipe, folder: Path | None = None, stop: tuple[int, int] | None = None, dropout: bool = False
) -> tuple[dict[str, Tensor], list[dict], int]:
    """(network's and optimiser's tensors on the CPU, a row per epoch, number of calls after a step).

    States are kept in ``folder`` after every step, and the newest one is resumed. ``stop`` is (epoch, step).

    Raises:
        KeyboardInterrupt: after the step ``stop``.
    """
    device = how.compute.device
    packed = images().to(device)
    net = network(dropout).to(device)
    optimizer = make_optimizer("adamw", net, 0.1, 0.9)
    states = Resumable(folder, "step", net, optimizer, steps_per_epoch(len(packed), how.cfg.batch_size), save_seconds=0.0)
    rows, taken = recipes.train(net, optimizer, packed, how, states, stop)
    return {name: t.detach().cpu() for name, t in training_tensors(net, optimizer).items()}, rows, len(taken)


def losses(rows: list[dict]) -> list[float]:
    """The training loss of every epoch."""
    return [row["train_loss"] for row in rows]
