"""The section `evolve`."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gee_core.config.section import PathName, Positive, Scale, Section, Sizes, StepSchedule, Weight, check_norm_images

Variant = Literal["random", "analytic", "random_search", "baseline", "baseline+R_T", "baseline+R_S", "ste"]
SWITCHES: dict[str, tuple[bool, bool]] = {
    "random": (False, False),
    "analytic": (False, False),
    "random_search": (True, True),
    "baseline": (False, False),
    "baseline+R_T": (True, False),
    "baseline+R_S": (False, True),
    "ste": (True, True),
}
"""Whether a variant rewards R_T and R_S (Table 4)."""
FIXED = ("random", "analytic")
"""The variants that score one fixed wiring; the others search."""
STARTS = ("analytic", "unit")
"""Values of `evolve.start` that are no files."""


class Rescore(Section):
    """`evolve.rescore`: how the best candidates are scored again."""

    top: Positive
    """Number of the best candidates that are scored again, besides the start of the search and the mean of CMA-ES's last
    distribution: the best of each generation, the last generation first, then the second best of each, and so on."""
    draws: Positive
    """Fresh draws of the wiring for each; the winner has the least mean fitness over them."""


class EvolveConfig(Section):
    """`evolve`: CMA-ES over the distributions of the initial wiring (Eq. 9-16)."""

    variant: Variant
    """`random` (all σ = 1) and `analytic` do not evolve; `baseline` evolves on the loss alone, `baseline+R_T` and
    `baseline+R_S` add one regulariser, `ste` both (Table 4). STE is the paper's Spatio-Temporal dynamical Evolution, not the
    straight-through estimator. `random_search` scores as many candidates as `ste`, with its
    fitness, drawn evenly within its bounds, without CMA-ES."""
    genotype: Literal["per_layer", "shared", "shape"]
    """`per_layer`: {σ_O, σ_0 … σ_L}; `shared`: {σ_O, σ_X}; `shape`: genes of shape (`network.init` names them) and one factor
    on all σ_l."""
    n_generations: Positive
    """Number of generations of CMA-ES; the paper has 5."""
    population_size: Annotated[int, Field(ge=2, le=10_000)] | None
    """Candidates per generation; null for CMA-ES's own 4 + ⌊3 ln n⌋ of n searched genes."""
    sigma: Annotated[float, Field(gt=0, le=5)]
    """Initial step size of CMA-ES, in the unit of a coordinate: log σ, log γ, β/2, or the gene itself. In no coordinate is the
    standard deviation ever more than a third of the range: 0.33 for ω and β/2, 0.32 for α, κ and ρ, 0.92 for log γ,
    1.33 for the slope, 2·ln(`bound`)/3 for log σ (0.92 at a bound of 4). A larger `sigma` has no effect there."""
    bound: Annotated[float, Field(gt=1, le=1e6)]
    """Every σ stays between its value at the start of the search divided and multiplied by this."""
    start: PathName
    """Where the search starts: `analytic` (σ's of He's variance, shape of `network.init`), `unit` (all σ = 1, as the paper's
    Fig. 4; `bound` must reach the analytic σ's), or a genotype.json of an earlier evolve, of the same network, width and
    form, copied to the folder inputs/, where DVC sees its content; its shape is that of the start, and `network.init` is then
    null. With `genotype: shared`, σ_X starts at the geometric mean of the analytic σ_l, and the variance of W differs from He's
    by layer: 0.25 to 2 times as large in vgg16, 0.58 to 2.33 times in resnet19."""
    halving: Annotated[float, Field(ge=1)] | None
    """η of successive halving: after each proxy epoch of a generation, only the best ⌈n/η⌉ of n candidates are trained
    further, and the others rank behind them. null trains all for all epochs; 1 does the same, measuring after each epoch."""
    proxy_epochs: Positive
    """E, epochs for which a candidate is trained before it is scored; the paper has 2 for STE."""
    proxy_images: Positive | None
    """Train candidates on this many training images, a stratified part; null for all but the hold-out."""
    sizes: Sizes | None
    """As `train.sizes`, of the proxy epochs: [16] trains candidates on images of 16 pixels. They are scored on whole ones."""
    T_schedule: StepSchedule | None
    """As `train.T_schedule`, of the proxy epochs. Candidates are scored with `network.T` steps."""
    norm_images: Positive | None
    """As `train.norm_images`, before a candidate is scored. null: one that was trained on smaller images or with fewer steps
    is scored with batch norm's running averages of these."""
    batch_size: Positive
    """Images per step of the proxy training."""
    optimizer: Literal["adamw", "muon"]
    """Of the proxy training, as `train.optimizer`; the momentum of `muon` is 0.95."""
    lr: Annotated[float, Field(gt=0, le=1e38)]
    """Peak learning rate of the proxy training (cosine, a tenth of the steps as warm-up)."""
    lr_X: Scale
    """Factor on the learning rate of X in the proxy training: its plasticity."""
    lr_O: Scale
    """Factor on the learning rate of O in the proxy training."""
    weight_decay: Weight
    """Weight decay of the proxy training."""
    a: Weight
    """Weight of the temporal difference R_T in the fitness (Eq. 16)."""
    b: Weight
    """Weight of the spatial entropy R_S in the fitness (Eq. 16)."""
    tau_lambda: Scale
    """τ_λ of λ(t) = exp(-t/τ_λ), in generations."""
    rescore: Rescore | None
    """Score the best candidates again on fresh draws after the last generation, and choose the winner by these; null takes
    the best candidate with the draw that it was scored with."""

    @model_validator(mode="after")
    def _start_is_used(self) -> Self:
        if self.start != "analytic" and not self.searches:
            no_use = f"has no use for variant {self.variant}, which does not search: set it to analytic"
            raise ValueError(f"start = {self.start!r} {no_use}")
        return self

    @model_validator(mode="after")
    def _norm_images_fill_a_batch(self) -> Self:
        check_norm_images(self.norm_images, self.batch_size)
        return self

    @property
    def searches(self) -> bool:
        """Whether the variant searches, and does not score one fixed wiring."""
        return self.variant not in FIXED

    @property
    def start_file(self) -> str | None:
        """The file that `start` names, if any."""
        return None if self.start in STARTS else self.start

    def population(self, n_searched: int) -> int:
        """Candidates per generation in a search of ``n_searched`` genes."""
        return self.population_size or 4 + math.floor(3 * math.log(n_searched))

    def check_top(self, n_searched: int) -> None:
        """Raise ``ValueError`` if more candidates are to be scored again than a generation of ``n_searched`` genes has."""
        population = self.population(n_searched)
        if self.rescore is not None and self.rescore.top > population:
            remedy = f"a generation has {population} candidates: set it to {population} or less"
            raise ValueError(f"evolve.rescore.top = {self.rescore.top}: {remedy}")
