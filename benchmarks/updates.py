"""How well small parts of the shipped CIFAR-10 network carry it to images of another kind, beside training everything.

    python -m benchmarks.updates FOLDER rates --csv rates.csv      # each arm's learning rate, on images that no table reads
    python -m benchmarks.updates FOLDER table --csv table.csv      # all 10,000 test images; --images 100, 500 or 2000
    python -m benchmarks.updates FOLDER table --csv plain.csv --plain network.safetensors   # a plain trained network's arms

FOLDER is unpacked CIFAR-10, with train/ and test/, and FashionMNIST/raw/ for the new task `fashion`. Rows are appended to the
file, and those that it has are not computed again. `--part 0/2` computes every other row, beside another process.

Arms: `nothing`; `statistics` of batch norm taken anew; and, after that, training of the `head`, of batch norm's weights and
biases (`norm`), of `O`, of both, of `everything`, and of LoRA-XS (Bałazy et al. 2024) with norm on the decoded network: a
matrix R (r, r) between the leading singular vectors of each layer's weight, with about as many numbers in all as O has.
"""

import argparse
import copy
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torchvision.datasets import FashionMNIST, ImageFolder
from torchvision.transforms import functional as TF

from gee_core.checkpoint import load
from gee_core.compute import Compute, cpu_name
from gee_core.config import TrainConfig
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork
from gee_core.pretrained.files import pretrained_card
from gee_core.pretrained.shipped import load_pretrained
from gee_core.seeding import derive_seed, torch_generator
from gee_core.settings import keep_freed_memory
from gee_core.training.loop import accuracy_and_loss, for_inference, train_epoch
from gee_core.training.optimizers import make_optimizer, train_only
from gee_core.training.recipe import full_recipe
from pipelines.project.git import git_commit
from pipelines.project.presets import load_preset

BASE = "cifarnet.cifar10"
RANK = 19  # 7 layers · 19² = 2,527 numbers; O has 2,500

SHIFTS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "turned": lambda x, _: x.rot90(1, (2, 3)),
    "noise": lambda x, draw: (x + 51 * torch.randn(x.shape, generator=draw)).round().clamp(0, 255).to(torch.uint8),
    "blur": lambda x, _: TF.gaussian_blur(x, [5, 5], [1.0, 1.0]),
    "inverted": lambda x, _: 255 - x,
    "grey": lambda x, _: TF.rgb_to_grayscale(x, 3),
    "fashion": lambda x, _: x,
}
"""What becomes of uint8 images (N, C, H, W)."""

ARMS: dict[str, list[str] | None] = {
    "nothing": None,
    "statistics": None,
    "head": ["head"],
    "norm": ["norm"],
    "O": ["O"],
    "O+norm": ["O", "norm"],
    "xs+norm": ["norm"],
    "everything": None,
}
"""The parts that learn, by arm."""

RATES = {
    "head": [(lr, 1.0) for lr in (2.4e-3, 8e-3, 2.4e-2)],
    "norm": [(lr, 1.0) for lr in (8e-3, 2.4e-2, 7.2e-2)],
    "O": [(lr, 1.0) for lr in (2.4e-3, 8e-3, 2.4e-2)],
    "O+norm": [(2.4e-2, 0.33), (8e-3, 0.33), (7.2e-2, 0.33), (2.4e-2, 0.1), (2.4e-2, 1.0)],
    "xs+norm": [(2.4e-2, 0.33), (8e-3, 0.33), (7.2e-2, 0.33), (2.4e-2, 0.1), (2.4e-2, 1.0)],
    "everything": [(lr, 1.0) for lr in (8e-4, 2.4e-3, 8e-3)],
}
"""Rates, and factors on those of O and of R, that are tried first. Where the best is at an edge, `--try` adds others."""

TUNED_ON, TUNING_SEED = ("turned", "fashion"), 100
CELL = ("network", "shift", "images", "column", "seed", "lr", "factor")
COLUMNS = (*CELL, "value", "commit", "cpu", "command")
"""As in docs/results/data, so that a study goes on from the rows there: `column` is the arm, `value` its accuracy in %."""


class LoRAXS(nn.Module):
    """W + U·R·V of a convolution's weight W (J, I, h, w): its leading singular vectors, and R, which starts at 0."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        U, S, V = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
        self.U, self.V = U[:, :rank] * S[:rank], V[:rank]
        self.R = nn.Parameter(torch.zeros(rank, rank))

    def forward(self, W: Tensor) -> Tensor:
        return (W.flatten(1) + self.U @ self.R @ self.V).view_as(W)


class Data:
    """Images of each shift: the first 2,000 training images of a seed's draw, others to tune on, and all test images."""

    def __init__(self, folder: Path):
        self.folder, self._read = folder, dict[tuple[str, bool], PackedImages]()

    def _images(self, fashion: bool, train: bool) -> PackedImages:
        key = "fashion" if fashion else "cifar10", train
        if key not in self._read:
            if fashion:
                found = FashionMNIST(str(self.folder), train=train)
                pixels = nn.functional.pad(found.data, (2, 2, 2, 2))[:, None].repeat(1, 3, 1, 1)
                self._read[key] = PackedImages(pixels, found.targets)
            else:
                files = ImageFolder(str(self.folder / ("train" if train else "test"))).samples
                pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in files]))
                labels = torch.tensor([label for _, label in files])
                self._read[key] = PackedImages(pixels.permute(0, 3, 1, 2).contiguous(), labels)
        return self._read[key]

    def of(self, shift: str, n: int, seed: int, tuning: bool) -> tuple[PackedImages, PackedImages]:
        """(``n`` images to learn from, images to test on): in ``tuning`` 2,000 other training images."""
        train = self._images(shift == "fashion", True)
        order = torch.randperm(len(train), generator=torch_generator(seed, "updates"))
        test = train.subset(order[-2000:]) if tuning else self._images(shift == "fashion", False)
        draw = torch_generator(derive_seed(seed, "updates"), shift)
        learnt, tested = (
            PackedImages(SHIFTS[shift](part.images, draw), part.labels) for part in (train.subset(order[:n]), test)
        )
        return learnt, tested


def adapt(
    base: SpikingNetwork, arm: str, learnt: PackedImages, tested: PackedImages, rate: tuple[float, float], seed: int, new: bool
) -> float:
    """The accuracy on ``tested`` after a copy of ``base`` learnt, with a new classifier if the task is ``new``."""
    lr, factor = rate
    values = load_preset("adapt").params.train.model_dump()
    cfg = TrainConfig(**values | {"lr": lr, "lr_O": factor, "parts": None, "init_from": None})
    net = cast(SpikingNetwork, decode(base) if arm == "xs+norm" else copy.deepcopy(base))
    if new:
        torch.manual_seed(derive_seed(seed, "head"))
        cast(nn.Linear, cast(nn.Sequential, net.head)[-1]).reset_parameters()
    compute = Compute.of("cpu", "fp32")
    recipe = full_recipe(cfg, normalisation(learnt, arm), compute, len(learnt), derive_seed(seed, "train"), 0.5)
    if arm != "nothing":
        recipe.end(net, learnt)  # the statistics
    if arm in RATES:
        optimizer = optimizer_of(net, arm, cfg, new)
        for epoch in range(cfg.epochs):
            train_epoch(net, optimizer, learnt, recipe, epoch)
    return accuracy_and_loss(for_inference(net), tested, 256, recipe.normalise, compute)[0]


def normalisation(images: PackedImages, arm: str) -> Normalise:
    """By mean and standard deviation of ``images``; ``nothing`` keeps the base's."""
    if arm == "nothing":
        card = pretrained_card(BASE)
        return Normalise(card.mean, card.std)
    x = images.images / 255
    return Normalise(tuple(x.mean((0, 2, 3)).tolist()), tuple(x.std((0, 2, 3)).tolist()))


def optimizer_of(net: SpikingNetwork, arm: str, cfg: TrainConfig, new: bool) -> torch.optim.Optimizer:
    """The optimiser of ``net``, of which only what ``arm`` names learns, and the classifier of a ``new`` task."""
    net.requires_grad_(True)
    if (parts := ARMS[arm]) is not None:
        train_only(net, [*parts, *(["head"] if new and "head" not in parts else [])])
    if arm != "xs+norm":
        return make_optimizer(cfg.optimizer, net, cfg.weight_decay, lr_O=1.0 if arm == "everything" else cfg.lr_O)
    R = list[nn.Parameter]()
    for conv in net.conv_chain()[1:]:
        xs = LoRAXS(conv.weight, RANK)
        parametrize.register_parametrization(conv, "weight", xs)
        R.append(xs.R)
    others = [p for p in net.parameters() if p.requires_grad and all(p is not r for r in R)]
    matrices, vectors = [p for p in others if p.ndim > 1], [p for p in others if p.ndim <= 1]
    groups = (R, cfg.weight_decay, cfg.lr_O), (matrices, cfg.weight_decay, 1.0), (vectors, 0.0, 1.0)
    named = [{"params": p, "weight_decay": decay, "lr_factor": factor} for p, decay, factor in groups if p]
    return torch.optim.AdamW(named, fused=True)


def best_rates(file: Path, network: str) -> dict[tuple[str, str], tuple[float, float]]:
    """By shift and arm, the rate and the factor of the highest accuracy in a table of `rates`."""
    rows = sorted(read(file), key=lambda row: float(row["value"]))
    return {
        (row["shift"], row["column"]): (float(row["lr"]), float(row["factor"])) for row in rows if row["network"] == network
    }


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a table, none where there is no file."""
    with file.open(newline="") if file.exists() else io.StringIO() as text:
        return [*csv.DictReader(text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("rates", "table"))
    parser.add_argument("--csv", type=Path, required=True, help="rows are appended here")
    parser.add_argument("--rates", type=Path, help="of table: what `rates` wrote")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shifts", nargs="+", choices=SHIFTS)
    parser.add_argument("--arms", nargs="+", choices=ARMS)
    parser.add_argument("--try", dest="tried", type=float, nargs=2, action="append", help="of rates: this rate and factor")
    parser.add_argument("--plain", type=Path, help="a plain trained network in place of the shipped one")
    parser.add_argument("--part", default="0/1")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    tuning, network = args.what == "rates", "plain" if args.plain else "genes"
    arms = args.arms or [*(RATES if tuning else ARMS)]
    shifts = args.shifts or (TUNED_ON if tuning else [*SHIFTS])
    if tuning:
        cells = [(s, arm, TUNING_SEED, rate) for arm in arms for s in shifts for rate in args.tried or RATES[arm]]
    else:
        best = best_rates(args.rates, network)
        kind = {shift: "fashion" if shift == "fashion" else "turned" for shift in SHIFTS}
        seeds = range(args.seeds)
        cells = [(s, arm, seed, best.get((kind[s], arm), (1e-3, 1.0))) for seed in seeds for s in shifts for arm in arms]
    number, of = map(int, args.part.split("/"))
    base, data = load(args.plain) if args.plain else load_pretrained(BASE), Data(args.folder)
    for shift, arm, seed, rate in cells[number::of]:
        name = dict(zip(CELL, map(str, (network, shift, args.images, arm, seed, *rate)), strict=True))
        if any(row.items() >= name.items() for row in read(args.csv)):
            continue
        learnt, tested = data.of(shift, args.images, seed, tuning)
        accuracy = adapt(base, arm, learnt, tested, rate, seed, shift == "fashion")
        row = name | {"value": f"{100 * accuracy:.2f}", "commit": (git_commit(Path()) or "")[:8], "cpu": cpu_name()}
        row |= {"command": f"python -m benchmarks.updates FOLDER {args.what} --images {args.images}"}
        with args.csv.open("a", newline="") as text:
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            if not text.tell():
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(row.values()), flush=True)


if __name__ == "__main__":
    main()
