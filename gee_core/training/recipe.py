"""How a network is trained, and how many steps that takes."""

from dataclasses import dataclass

from gee_core.data.augment import Augment, Normalise
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.rank import Rank


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained, whether as a candidate or in full."""

    epochs: int
    batch_size: int
    lr: float
    lr_min: float
    warmup_steps: int
    label_smoothing: float
    augment: Augment | None
    normalise: Normalise
    compute: Compute
    seed: int
    cooldown: float | None = None
    """Part of the steps, the last ones, in which the learning rate falls linearly; None lets it fall along a cosine."""
    loss: str = "ce"
    """`ce`: of the mean over the steps; `tet`: of every step."""
    tet_lambda: float = 0.0
    """λ of TET."""
    tet_phi: float = 0.0
    """φ of TET."""
    quantise_bits: int | None = None
    """Bits that genes and weights are rounded to in the last ``quantise_epochs``; None trains without rounding."""
    quantise_epochs: int = 0
    sizes: tuple[int, ...] = ()
    """Sides in pixels of the images, by equal parts of the epochs, or the last ones; empty keeps that of the images."""
    T_schedule: tuple[int, ...] = ()
    """Time steps, likewise; empty keeps the network's."""
    norm_images: int = 0
    """Images over which batch norm's statistics are taken anew after the last epoch; 0 leaves the running averages."""

    def bits_of(self, epoch: int) -> int | None:
        """Bits that genes and weights are rounded to in ``epoch`` (from 0), if they are."""
        return self.quantise_bits if epoch >= self.epochs - self.quantise_epochs else None

    def size_of(self, epoch: int) -> int | None:
        """Side in pixels of the images in ``epoch`` (from 0); None keeps it."""
        return self._part(self.sizes, epoch)

    def T_of(self, epoch: int) -> int | None:
        """Time steps in ``epoch`` (from 0); None keeps the network's."""
        return self._part(self.T_schedule, epoch)

    def _part(self, values: tuple[int, ...], epoch: int) -> int | None:
        if len(values) > self.epochs:
            return values[epoch - self.epochs]
        return values[epoch * len(values) // self.epochs] if values else None


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Steps of an epoch; a last, smaller batch is used if it is at least half full, else its images are left out."""
    return max(1, (n_images + batch_size // 2) // batch_size)


def images_per_epoch(n_images: int, batch_size: int) -> int:
    """Images that the steps of an epoch see."""
    return min(n_images, steps_per_epoch(n_images, batch_size) * batch_size)


def check_images(n_images: int, batch_size: int, rank: Rank) -> None:
    """Check that every process has an image of every batch of an epoch.

    Raises:
        InputError: one would have none.
    """
    smallest = images_per_epoch(n_images, batch_size) - (steps_per_epoch(n_images, batch_size) - 1) * batch_size
    if rank.of > 1 and smallest < rank.of:
        raise InputError(
            f"{rank.of} processes: {n_images} training images in batches of {batch_size} leave one without an image of a batch",
            f"start {max(1, smallest)} or fewer (GEE_TRAIN_PROCESSES or torchrun), or train on more images",
        )
