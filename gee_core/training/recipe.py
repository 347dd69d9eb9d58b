"""The recipe by which a network is trained: its number of steps, its learning rates, and what it minimises.

That is the loss of the outputs, and a penalty on synaptic operations, which counts the spikes of a layer by their fan-out.

    R = Σ_l FL_l·fr_l / Σ_l FL_l    over all convolutions l after the stem

FL_l are the multiply-accumulates of a layer and fr_l is the mean of its input, as in Eq. 17, whose energy of these layers is
therefore proportional to R.

Shapes: T steps, B batch, K classes.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.compute import Compute
from gee_core.config import TrainConfig
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.errors import InputError
from gee_core.genome.quantise import BITS
from gee_core.model.base import SpikingNetwork
from gee_core.rank import Rank
from gee_core.seeding import derive_seed, private_torch_rng, torch_generator
from gee_core.snn.dynamics import wide
from gee_core.training.optimizers import make_optimizer, train_only
from gee_core.training.statistics import renew_statistics, whiten_stem


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings by which a network is trained, as a candidate or in full, and the values that they leave open."""

    cfg: TrainConfig
    normalise: Normalise
    compute: Compute
    seed: int
    warmup_steps: int
    tet_phi: float = 0.0
    """φ of TET."""

    @property
    def augment(self) -> Augment:
        """The augmentation of its images."""
        cfg = self.cfg
        return Augment(cfg.crop_padding, cfg.flip, cfg.randaugment, cfg.erasing, cfg.noise)

    def begin(self, net: nn.Module, images: PackedImages | StreamedImages) -> torch.optim.Optimizer:
        """Make ``net`` ready to learn from ``images``, in place, and return its optimiser."""
        cfg = self.cfg
        if cfg.whiten:
            whiten_stem(net, images, self.normalise, self.seed)
        if cfg.parts is not None:
            self.end(net, images)  # the statistics of new images, before anything learns from them
            train_only(net, cfg.parts)
        return make_optimizer(cfg.optimizer, net, cfg.weight_decay, cfg.momentum, cfg.lr_X, cfg.lr_O)

    def end(self, net: nn.Module, images: PackedImages | StreamedImages) -> None:
        """Take the statistics of the batch norms of ``net`` anew, in place, on `norm_images` of ``images`` if that is set.

        The images are drawn with the seed, and seen as in evaluation: at full size, with all T steps, without augmentation.
        Each of several processes sees whole batches, so that the statistics are those of one process.
        """
        if not self.cfg.norm_images:
            return
        order = torch.randperm(len(images), generator=torch_generator(self.seed, "norm"))
        drawn = images.subset(order[: self.cfg.norm_images])
        batches = islice(drawn.batches(self.cfg.batch_size), max(1, len(drawn) // self.cfg.batch_size))
        draws = private_torch_rng(derive_seed(self.seed, "norm"), self.compute.device)  # of layers of one's own
        with self.compute.autocast(), draws:
            renew_statistics(net, (self.normalise(batch) for batch, _ in batches), self.bits_of(self.cfg.epochs - 1))

    def loss(self, o_TBK: Tensor, labels_B: Tensor) -> Tensor:
        """The loss of the outputs, which the penalty on spikes is added to."""
        cfg = self.cfg
        if cfg.loss == "tet":
            return tet(o_TBK, labels_B, cfg.label_smoothing, cfg.tet_lambda, self.tet_phi)
        return cross_entropy(o_TBK, labels_B, cfg.label_smoothing)

    def bits_of(self, epoch: int) -> int | None:
        """Bits that genes and weights are rounded to in ``epoch`` (from 0), if they are."""
        quantise = self.cfg.quantise
        return BITS[quantise.format] if quantise and epoch >= self.cfg.epochs - quantise.epochs else None

    def size_of(self, epoch: int) -> int | None:
        """Side in pixels of the images in ``epoch`` (from 0). None keeps their size."""
        return self._part(self.cfg.sizes or (), epoch)

    def levels_of(self, epoch: int) -> int | None:
        """D of the integers that neurons fire in ``epoch`` (from 0). None keeps the network's neurons."""
        finish = self.cfg.finish
        return finish.levels if finish and epoch < self.cfg.epochs - finish.epochs else None

    def T_of(self, epoch: int) -> int | None:
        """Time steps in ``epoch`` (from 0). None keeps the network's number."""
        return 1 if self.levels_of(epoch) else self._part(self.cfg.T_schedule or (), epoch)

    def _part(self, values: Sequence[int], epoch: int) -> int | None:
        if len(values) > self.cfg.epochs:
            return values[epoch - self.cfg.epochs]
        return values[epoch * len(values) // self.cfg.epochs] if values else None


def full_recipe(
    cfg: TrainConfig, normalise: Normalise, compute: Compute, n_images: int, seed: int, v_threshold: float
) -> Recipe:
    """The recipe of Sec. 4 with the values of the section `train`, on ``n_images``."""
    warmup_steps = round(cfg.warmup_epochs * steps_per_epoch(n_images, cfg.batch_size))
    return Recipe(cfg=cfg, normalise=normalise, compute=compute, seed=seed, warmup_steps=warmup_steps, tet_phi=v_threshold)


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Steps of an epoch. A last, smaller batch is used if it is at least half full, else its images are left out."""
    return max(1, (n_images + batch_size // 2) // batch_size)


def images_per_epoch(n_images: int, batch_size: int) -> int:
    """Images that the steps of an epoch see."""
    return min(n_images, steps_per_epoch(n_images, batch_size) * batch_size)


def check_images(n_images: int, batch_size: int, rank: Rank) -> None:
    """Raise an InputError if a process would have no image of a batch of an epoch."""
    smallest = images_per_epoch(n_images, batch_size) - (steps_per_epoch(n_images, batch_size) - 1) * batch_size
    if rank.of > 1 and smallest < rank.of:
        raise InputError(
            f"{rank.of} processes: {n_images} training images in batches of {batch_size} leave one without an image of a batch",
            f"start {max(1, smallest)} or fewer, or train on more images",
        )


def learning_rate(
    step: int, n_steps: int, n_warmup: int, lr: float, lr_min: float = 0.0, cooldown: float | None = None
) -> float:
    """The learning rate of step 0 … n_steps-1: linear up to ``lr`` over ``n_warmup`` steps, then down to ``lr_min``.

    It falls along a cosine, or linearly in the last ``cooldown`` (0 to 1) of all steps that come after the warm-up.

    Sources: Loshchilov, Hutter, SGDR, 2017, Eq. 5, without restarts; Hägele et al., Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations, 2024, Sec. 3.
    """
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    start = n_warmup if cooldown is None else max(n_warmup, n_steps - round(cooldown * n_steps))
    progress = max(0, step - start) / max(1, n_steps - 1 - start)
    part = 0.5 * (1 + math.cos(math.pi * progress)) if cooldown is None else 1 - progress
    return lr_min + part * (lr - lr_min)


def cross_entropy(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """L_CE of the logits, which are the mean of o over the steps."""
    return F.cross_entropy(o_TBK.float().mean(0), labels_B, label_smoothing=label_smoothing)


def tet(o_TBK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0, lam: float = 0.0, phi: float = 0.0) -> Tensor:
    """(1 - λ)·1/T·Σ_t L_CE(o_t, y) + λ·1/T·Σ_t MSE(o_t, φ): every step has to be right on its own.

    Source: Deng et al., Temporal Efficient Training of Spiking Neural Network, ICLR 2022; φ is V_th there, and
    MSE the mean over batch and classes.
    """
    o_TBK = o_TBK.float()
    every_step = F.cross_entropy(o_TBK.flatten(0, 1), labels_B.repeat(len(o_TBK)), label_smoothing=label_smoothing)
    if lam == 0:
        return every_step
    return (1 - lam) * every_step + lam * (o_TBK - phi).square().mean()


Operations = list[tuple[Tensor, int]]
"""fr_l and FL_l, times images and steps, of each run of a layer."""


@contextmanager
def operations(net: nn.Module, wanted: bool) -> Iterator[Operations]:
    """Context in which the convolutions of ``net`` note their operations, if they are ``wanted``."""
    noted: Operations = []

    def note(conv: nn.Conv2d, args: tuple[Tensor], y: Tensor) -> None:
        noted.append((wide(args[0]).mean(), y.numel() * conv.in_channels // conv.groups * math.prod(conv.kernel_size)))

    with ExitStack() as hooks:
        if wanted:
            assert isinstance(net, SpikingNetwork)  # own networks are refused
            stem = net.conv_chain()[0]
            for module in net.modules():
                if isinstance(module, nn.Conv2d) and module is not stem:
                    hooks.callback(module.register_forward_hook(note).remove)
        yield noted


def mean_rate(noted: Operations) -> Tensor:
    """R of the runs that ``operations`` noted."""
    total = sum(macs for _, macs in noted)
    return sum((rate * (macs / total) for rate, macs in noted), start=noted[0][0].new_zeros(()))
