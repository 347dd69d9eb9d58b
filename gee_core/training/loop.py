"""One epoch of training, and the outputs and accuracy of a network on a set of images. Nothing is logged here.

Shapes: T steps, B batch, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.compute import Compute
from gee_core.data.augment import Normalise, to_input
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.genome.encoding import decode
from gee_core.genome.quantise import quantised_call
from gee_core.model.base import with_steps
from gee_core.seeding import derive_seed, private_torch_rng, torch_generator
from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF
from gee_core.training.optimizers import set_lr
from gee_core.training.processes import bare, share_statistics, summed
from gee_core.training.recipe import Recipe, check_images, learning_rate, mean_rate, operations, steps_per_epoch

Images = PackedImages | StreamedImages

HALF_RATE = 0.7
"""Current, over that at which a LIF neuron fires at every step, at which it fires at every other (between 2/3 and 1, τ = 2)."""


@dataclass(frozen=True)
class EpochRecord:
    """The result of an epoch of training, over its (augmented) training images."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float


@dataclass(frozen=True)
class MidEpochState:
    """The state of an unfinished epoch. With the network and the optimiser, it resumes the epoch."""

    step: int
    """Number of steps done."""
    sums: Tensor
    """Sums of loss and correct predictions over the images seen by all processes, and their number, float64 (3,)."""
    draws: Tensor
    """State of the generator for augmentation."""


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    recipe: Recipe,
    epoch: int,
    start: MidEpochState | None = None,
    on_step: Callable[[MidEpochState], None] = lambda mid_epoch: None,
) -> EpochRecord:
    """Train ``net``, of several processes what ``processes.parallel`` returned, for epoch ``epoch`` (from 0), in place.

    Draws depend on the recipe's seed and ``epoch`` only. ``on_step`` is called after every step but the last, with a state that
    is valid until the next: pass it as ``start``, with the network and optimiser of that moment, to resume mid-epoch.
    InputError where a batch has fewer images than there are processes, FloatingPointError where the loss is not finite.
    """
    cfg, rank, device = recipe.cfg, recipe.compute.rank, recipe.compute.device
    check_images(len(images), cfg.batch_size, rank)
    generator = torch_generator(recipe.seed, "epoch", epoch)
    n_steps = steps_per_epoch(len(images), cfg.batch_size)
    net.train()
    first = 0 if start is None else start.step
    total = torch.zeros(3, dtype=torch.float64) if start is None else start.sums.clone()  # loss, correct, images
    total = total.to(device)
    batches = images.batches(cfg.batch_size, generator, first, rank)
    for step, (batch, labels) in zip(range(first, n_steps), batches, strict=False):
        if start is not None and step == first:
            generator.set_state(start.draws)  # the order of the images is drawn by now
        now, end = epoch * n_steps + step, cfg.epochs * n_steps
        lr = learning_rate(now, end, recipe.warmup_steps, cfg.lr, cfg.lr_min, cfg.cooldown)
        set_lr(optimizer, lr)
        n = min(cfg.batch_size, len(images) - step * cfg.batch_size)  # of the whole batch
        place, T = rank.place(n), recipe.T_of(epoch)
        x = to_input(batch, recipe.normalise, recipe.augment, generator, recipe.size_of(epoch), place, T)
        o_TBK, penalty = _forward(net, x, recipe, epoch, step)
        loss = recipe.loss(o_TBK, labels)
        optimizer.zero_grad(set_to_none=True)
        ((loss + penalty) * (len(labels) * rank.of / n)).backward()  # the gradient is the mean over the processes
        optimizer.step()
        correct = (o_TBK.detach().float().mean(0).argmax(1) == labels).sum()
        sums = torch.stack([loss.detach() * len(labels), correct, torch.full_like(correct, len(labels))]).double()
        total += summed(sums, rank)
        if step + 1 < n_steps:
            on_step(MidEpochState(step + 1, total, generator.get_state()))
    if (levels := recipe.levels_of(epoch)) and not recipe.levels_of(epoch + 1):
        carry_scales(bare(net), levels)
    if epoch + 1 == cfg.epochs:
        recipe.end(bare(net), images)
    share_statistics(net, rank)
    loss_sum, correct, count = total.tolist()
    if not torch.isfinite(total[0]):
        raise FloatingPointError(f"the training loss is {loss_sum / count} in epoch {epoch + 1}")
    return EpochRecord(epoch + 1, lr, loss_sum / count, correct / count)


def _forward(net: nn.Module, x: Tensor, recipe: Recipe, epoch: int, step: int) -> tuple[Tensor, Tensor | float]:
    """o (T, B, K) of ``net`` as it runs in ``epoch``, and what its spikes add to the loss."""
    network, bits, rank, penalty = bare(net), recipe.bits_of(epoch), recipe.compute.rank, recipe.cfg.spike_penalty
    process = (rank.number,) if rank.number else ()
    draws = private_torch_rng(derive_seed(recipe.seed, "forward", epoch, step, *process), recipe.compute.device)  # dropout's
    neurons, steps = with_integers(network, recipe.levels_of(epoch)), with_steps(network, recipe.T_of(epoch))
    with recipe.compute.autocast(), draws, neurons, steps, operations(network, penalty > 0) as noted:
        o_TBK = net(x) if bits is None else quantised_call(net, bits, x)
    return o_TBK, penalty * mean_rate(noted) if noted else 0.0


@contextmanager
def with_integers(net: nn.Module, levels: int | None) -> Iterator[None]:
    """Context in which ``net`` has I-LIF neurons that fire 0 … ``levels`` in place of LIF ones. None leaves it as it is."""
    if levels is None:
        yield
        return
    places = [
        (parent, name, child) for parent in net.modules() for name, child in parent.named_children() if type(child) is LIF
    ]
    for parent, name, lif in places:
        setattr(parent, name, ILIF(lif.T, levels, v_threshold=lif.v_threshold, detach_reset=lif.detach_reset))
    try:
        yield
    finally:
        for parent, name, lif in places:
            setattr(parent, name, lif)


@torch.no_grad()
def carry_scales(net: nn.Module, levels: int) -> None:
    """Scale batch norms, in place, so that what made I-LIF fire ``levels`` / 2 makes LIF fire at every other step."""
    for layer in net.modules():
        if isinstance(layer, NormLIF):
            factor = HALF_RATE * (layer.lif.tau if layer.lif.decay_input else 1.0) / (levels / 2)
            layer.norm.weight.mul_(factor)
            layer.norm.bias.mul_(factor)


def for_inference(net: nn.Module) -> nn.Module:
    """A copy of ``net`` to evaluate: weights decoded once, in evaluation mode."""
    return decode(net).eval()


@torch.no_grad()
def outputs(
    net: nn.Module, images: Images, batch_size: int, normalise: Callable[[Tensor], Tensor], compute: Compute
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (o (T, B, K) in float32, labels (B,)) of ``net``, in evaluation mode, over this process's share of ``images``."""
    for batch, labels in images.batches(batch_size, rank=compute.rank):
        if not len(batch):
            continue
        with compute.autocast():
            o_TBK = net(normalise(batch))
        yield o_TBK.float(), labels


def accuracy_and_loss(
    net: nn.Module, images: Images, batch_size: int, normalise: Normalise, compute: Compute
) -> tuple[float, float]:
    """(accuracy in [0, 1], cross-entropy) of ``net``, which is in evaluation mode, on ``images``, by all processes."""
    sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
    for o_TBK, labels_B in outputs(net, images, batch_size, normalise, compute):
        logits_BK = o_TBK.mean(0)
        correct = (logits_BK.argmax(1) == labels_B).sum()
        sums += torch.stack([correct, F.cross_entropy(logits_BK, labels_B, reduction="sum")])
    accuracy, loss = (summed(sums, compute.rank) / len(images)).tolist()
    return accuracy, loss
