"""The section `train`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gee_core.config.section import Fraction, PathName, Positive, Scale, Section, Sizes, StepSchedule, Weight, check_norm_images


class Quantise(Section):
    """`train.quantise`: the last epochs of training see genes and weights as they are after rounding."""

    format: Literal["int8", "int4"]
    """The format that they are rounded to, as `export.genes` rounds them; gradients pass the rounding as if it were not there
    (straight-through)."""
    epochs: Positive
    """Number of the last epochs that do so, at most `train.epochs`."""


class TrainConfig(Section):
    """`train`: the winner's full training (Sec. 4)."""

    epochs: Positive
    """The paper has 200."""
    batch_size: Positive
    """Images per step, of all processes together."""
    lr: Annotated[float, Field(gt=0, le=1e38)]
    """Peak learning rate; the usual recipe is 5e-3 · batch_size / 1024 for AdamW, 0.1 · batch_size / 128 for SGD.
    Muon's updates are as large as AdamW's at the same rate, and bear several times the rate."""
    lr_min: Weight
    """Learning rate at the end."""
    cooldown: Annotated[float, Field(gt=0, le=1)] | None
    """Part of the steps, the last ones, in which the learning rate falls linearly to `lr_min`; between the warm-up and them it
    stays at `lr` (Hägele et al. 2024). 1: it falls from the end of the warm-up. null: it falls from there along a cosine."""
    lr_X: Scale
    """Factor on the learning rate of X: its plasticity. In front of batch norm, a σ does nothing but divide it."""
    lr_O: Scale
    """Factor on the learning rate of O."""
    sizes: Sizes | None
    """Side in pixels that training images are resized to, by equal parts of the epochs: [16, 24, 32] trains a third at each. Of
    more sizes than epochs, the last ones are used. Everything else sees whole images, and `crop_padding` counts their pixels.
    null: the size of the images."""
    T_schedule: StepSchedule | None
    """Time steps of training by equal parts of the epochs, as `sizes`: [2, 4] trains the first half with two. Everything else
    has `network.T` steps. null: `network.T`."""
    norm_images: Positive | None
    """Training images over which batch norm's statistics are taken anew after the last epoch, as evaluation sees them: at full
    size, with `network.T` steps. What `sizes` and `T_schedule` leave are those of smaller images and fewer steps. Whole batches
    are used. null: the running averages of training."""
    warmup_epochs: Annotated[float, Field(ge=0, lt=2**31)]
    """Epochs of linear warm-up, such as 0.5."""
    weight_decay: Weight
    """Weight decay; not applied to biases and batch norm."""
    optimizer: Literal["adamw", "sgd", "muon"]
    """`adamw`, `sgd` with Nesterov's momentum, or `muon`: updates of X, O and kernels with equal singular values (Jordan et al.
    2024), and AdamW for the stem, linear layers and what is no matrix."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Momentum of `sgd` (usually 0.9) and `muon` (0.95); `adamw` does not use it."""
    loss: Literal["ce", "tet"]
    """`ce`: cross-entropy of the mean output over the steps; `tet`: mean over the steps of each one's cross-entropy (Deng et
    al. 2022)."""
    tet_lambda: Fraction
    """λ of `tet`: the fraction of its second term, the mean squared distance of every output to V_th. `ce` does not use
    it."""
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
    wiring_seed: Literal["candidate", "fresh"]
    """Train the wiring that was scored (`candidate`), or draw a new one from the same distributions (`fresh`)."""
    init_from: PathName | None
    """A network.safetensors of the same network with plain weights, copied with its .json to the folder inputs/, where DVC sees
    its content: training starts at genes that approximate its weights, not at the evolved wiring. null starts at the wiring."""
    include_holdout: bool
    """Train on the hold-out of evolve too. Otherwise its accuracy is recorded after every epoch, as validation."""
    sync_batch_norm: bool
    """Where several processes train (`GEE_TRAIN_PROCESSES`): batch norms take their statistics over the images of all of them,
    not over each one's own. Training is then that of one process but for rounding, and waits in every layer for the slowest.
    One process with this setting computes them in the same way, which takes longer. A network of your own needs
    `torch.nn.BatchNorm2d` for it, not SpikingJelly's."""
    quantise: Quantise | None
    """Prepare the network for a format of few bits: its last epochs run with rounded genes and weights. The checkpoint keeps
    float32 numbers, and validation uses them. null trains without rounding."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g} must be less than epochs = {self.epochs}")
        check_norm_images(self.norm_images, self.batch_size)
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min = {self.lr_min} must not be greater than lr = {self.lr}")
        if self.quantise is not None and self.quantise.epochs > self.epochs:
            raise ValueError(f"quantise.epochs = {self.quantise.epochs} must not be greater than epochs = {self.epochs}")
        return self
