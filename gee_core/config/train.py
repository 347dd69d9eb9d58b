"""The section `train`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gee_core.config.section import Fraction, PathName, Positive, Scale, Section, Sizes, StepSchedule, Weight


class Quantise(Section):
    """`train.quantise`: the last epochs of training see genes and weights as they are after rounding."""

    format: Literal["int8", "int4"]
    """The format that they are rounded to, as by `export.genes`; gradients pass the rounding unchanged (straight-through)."""
    epochs: Positive
    """Number of the last epochs that do so, at most `train.epochs`."""


class Finish(Section):
    """`train.finish`: the network's own LIF neurons train in the last epochs only, and I-LIF neurons of one step before."""

    levels: Annotated[int, Field(ge=1, le=64)]
    """D of the integers 0 … D that the neurons fire before (`gee_core.ILIF`); V_th is the network's."""
    epochs: Positive
    """Number of the last epochs; less than `train.epochs`."""


class Learning(Section):
    """The settings that the full training and the short one of a candidate both have."""

    epochs: Positive
    """Epochs. The paper has 200."""
    batch_size: Positive
    """Images per step, of all processes together."""
    lr: Annotated[float, Field(gt=0, le=1e38)]
    """Peak learning rate; usually batch_size / 1024 times 5e-3 for AdamW, several times that for Muon, 0.8 for SGD."""
    lr_X: Scale
    """Factor on the learning rate of X: its plasticity. In front of batch norm, a σ does nothing but divide it."""
    lr_O: Scale
    """Factor on the learning rate of O."""
    sizes: Sizes | None
    """Side in pixels of training images, by equal parts of the epochs: [16, 24, 32] trains a third at each. null: theirs."""
    T_schedule: StepSchedule | None
    """Time steps of training by equal parts of the epochs: [2, 4] trains the first half with two. null: `network.T`."""
    weight_decay: Weight
    """Weight decay; not applied to biases and batch norm."""
    optimizer: Literal["adamw", "sgd", "muon"]
    """`adamw`, `sgd` (Nesterov), or `muon`: updates of X, O, kernels with equal singular values (Jordan et al. 2024)."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Momentum of `sgd` (usually 0.9) and `muon` (0.95); `adamw` does not use it."""
    whiten: bool
    """The stem's filters whiten the training images, untrained (Jordan 2024). They are the principal directions of the patches,
    each with its negative."""


SHARED = tuple(name for name in Learning.model_fields if name != "epochs")
"""The settings that `evolve.proxy` has from `train`, unless it names another value."""


class TrainConfig(Learning):
    """`train`: the winner's full training (Sec. 4)."""

    lr_min: Weight
    """Learning rate at the end."""
    cooldown: Annotated[float, Field(gt=0, le=1)] | None
    """Last part of the steps, in which the rate falls linearly from `lr` (Hägele et al. 2024); null: a cosine over all."""
    norm_images: Positive | None
    """Images that batch norm's statistics are taken from after training, at full size and T; null: running averages."""
    warmup_epochs: Annotated[float, Field(ge=0, lt=2**31)]
    """Epochs of linear warm-up, such as 0.5."""
    loss: Literal["ce", "tet"]
    """`ce`: cross-entropy of the mean output over the steps, `tet`: mean of every step's own (Deng et al. 2022)."""
    tet_lambda: Fraction
    """λ of `tet`, the fraction of its second term: the mean squared distance of every output to V_th."""
    spike_penalty: Weight
    """Weight in the loss of the synaptic operations after the stem. They count as a fraction of those of neurons that fire at
    every step: fewer spikes, first where their fan-out is large. train_loss leaves it out. 0 for none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Label smoothing of the cross-entropy."""
    crop_padding: Annotated[int, Field(ge=0, le=1024)]
    """Pixels of padding for random crops; 0 for none."""
    flip: bool
    """Random horizontal flips."""
    randaugment: Annotated[int, Field(ge=0, le=30)]
    """Magnitude m of RandAugment (two operations); 0 for none."""
    erasing: Fraction
    """Probability of random erasing."""
    noise: Annotated[float, Field(ge=0, le=10)]
    """Greatest strength r of Gaussian noise on training images. It is on the normalised images, as `robustness.strengths`; each
    image draws its own, evenly from 0 up to it, in every epoch. 0 for none."""
    wiring_seed: Literal["candidate", "fresh"]
    """Train the wiring that was scored (`candidate`), or one drawn anew (`fresh`)."""
    init_from: PathName | None
    """A plain network.safetensors in inputs/ to encode, or a trained network such as cifarnet.cifar10 to fine-tune. The first
    takes its .json too, the other comes with GEE. null: start at the wiring."""
    parts: Annotated[list[Literal["O", "norm", "head"]], Field(min_length=1)] | None
    """What of `init_from` learns: O, batch norm's weights and biases (`norm`), the classifier (`head`). All else stays, but for
    batch norm's statistics, which are also taken before training where `norm_images` is set. null: everything learns."""
    include_holdout: bool
    """Train on the hold-out of evolve too. Otherwise its accuracy is recorded after every epoch, as validation."""
    quantise: Quantise | None
    """Round genes and weights in the last epochs; the checkpoint and validation keep float32. null trains without it."""
    finish: Finish | None
    """Train integers of one step first, which is faster, and LIF neurons in the last epochs. null: one kind throughout."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            problem = f"warmup_epochs = {self.warmup_epochs:g} must be less than epochs = {self.epochs}"
            raise ValueError(f"{problem}: set it to less, such as {self.epochs / 5:g}")
        if self.norm_images is not None and self.norm_images < self.batch_size:
            raise ValueError(f"norm_images = {self.norm_images} must be at least batch_size = {self.batch_size}")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min = {self.lr_min} must not be greater than lr = {self.lr}")
        if self.whiten and self.init_from is not None:
            raise ValueError(f"whiten = true would replace the stem of init_from = {self.init_from!r}: set one of the two")
        if self.parts is not None and self.init_from is None:
            raise ValueError(f"parts = {self.parts} are of a trained network: name it as init_from, or set parts to null")
        if self.quantise is not None and self.quantise.epochs > self.epochs:
            raise ValueError(f"quantise.epochs = {self.quantise.epochs} must not be greater than epochs = {self.epochs}")
        if self.finish is not None and self.finish.epochs >= self.epochs:
            raise ValueError(f"finish.epochs = {self.finish.epochs} must be less than epochs = {self.epochs}")
        return self
