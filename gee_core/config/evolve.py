"""The section `evolve`."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gee_core.config.genes import check_genes
from gee_core.config.section import PathName, Positive, Scale, Section, Weight
from gee_core.config.train import Learning

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
    """Number of the best candidates. They are the best of each generation, the last generation first, then the second best of
    each, and so on. The start and the mean of CMA-ES's last distribution come in addition."""
    draws: Positive
    """Fresh draws of the wiring for each candidate. The winner has the least mean fitness over the draws."""


class Budget(Section):
    """`evolve.budget`: the most that a network may cost. A cost without a limit is free.

    Under any budget, a candidate has no more parameters than the same network with plain weights.
    """

    parameters: Positive | None = None
    """Parameters, genes in place of the weights that they encode."""
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    """Parameters as a part of those of the plain network that the section `network` describes."""
    bytes: Positive | None = None
    """Bytes of all numbers in a file of genes in int8, without its header."""
    energy_uj: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Energy per image in µJ by Eq. 17, without building W."""
    steps: Annotated[int, Field(ge=1, le=64)] | None = None
    """Time steps T."""

    def exceeded(self, price: Mapping[str, float]) -> dict[str, float]:
        """By name the part, above 0, by which ``price`` is more than each limit; what ``price`` lacks is within."""
        return {name: over for name, most in self.limits().items() if (over := price.get(name, 0) / most - 1) > 0}

    def limits(self) -> dict[str, float]:
        """The limits by name."""
        return self.model_dump(exclude_none=True) | {"own_ratio": 1.0}


class SearchConfig(Section):
    """The settings of a search, as ``gee_core.evolve`` takes them. The section `evolve` of params.yaml names all of them."""

    variant: Variant = "baseline"
    """`baseline` evolves on the loss, `baseline+R_T` and `baseline+R_S` with one regulariser, `ste` with both, `random_search`
    draws evenly, `random` (all σ = 1) and `analytic` do not evolve. In Table 4 `ste` is Spatio-Temporal dynamical Evolution.
    `random_search` scores as many candidates as `ste`, with its fitness, drawn evenly within its bounds."""
    genes: list[str] = Field(default=["shape"], min_length=1)
    """Single genes, or groups: `wiring` (the paper's), `shape`, `neurons`, `plasticity`, `structure`. docs/knobs.md lists the
    genes of each. `wiring` is σ_O and one σ per layer, [sigma_O, sigma_X] has one σ for all X. A gene of the last three groups
    starts at its setting, and the winner's value replaces that setting in all later stages, also `train.lr` …"""
    budget: Budget | None = None
    """Limits on a candidate. Candidates outside rank after all others, by how far they are outside. All is counted before the
    training, but for the energy of layers that add, which is measured after. null: no limit."""
    objectives: list[Literal["loss", "parameters", "bytes", "energy", "steps"]] = Field(default=["loss"], min_length=1)
    """loss alone: CMA-ES minimises F of Eq. 16. With more, loss first, it minimises the product of the others, the costs, as a
    part of the start's. A loss of more than 1.05 times the start's is penalised. The candidates then make a front: no other
    candidate beats its members in all objectives. It takes the variant `baseline`. All candidates share one draw."""
    choose: Literal["no_worse", "knee"] | Positive = "no_worse"
    """The member of a front that is trained: `no_worse`, `knee`, or its number in models/evolve/front.json. `no_worse` trains
    the start and the two most promising members in full, without the hold-out images. It takes the one of least F among those
    whose loss on these images is at most 1.15 times the start's. `knee`: the nearest to the best of every objective, each on
    its range."""
    n_generations: Positive = 5
    """Generations of CMA-ES. The paper has 5."""
    population_size: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Candidates per generation. null: CMA-ES's own 4 + ⌊3 ln n⌋ of n searched genes."""
    sigma: Annotated[float, Field(gt=0, le=5)] = 0.2
    """Initial step size, in log σ or parts of a gene's range. At most a third of the range, 2·ln(`bound`) of log σ."""
    bound: Annotated[float, Field(gt=1, le=1e6)] = 4.0
    """Greatest factor between a σ and its start."""
    a: Weight = 0.1
    """Weight of R_T, the temporal difference (Eq. 16)."""
    b: Weight = 0.1
    """Weight of R_S, the spatial entropy (Eq. 16)."""
    tau_lambda: Scale = 2.0
    """τ_λ of λ(t) = exp(-t/τ_λ), in generations."""
    rescore: Rescore | None = None
    """How the best candidates are scored again, on fresh draws. null: the best score wins, with its own draw."""

    @field_validator("genes")
    @classmethod
    def _genes_are_known(cls, genes: list[str]) -> list[str]:
        check_genes(genes)
        return genes

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        names = self.objectives
        if names[0] != "loss" or len(set(names)) < len(names):
            raise ValueError(f"objectives = {names}: write loss first, and each once")
        if self.several and any(map(math.prod, zip(SWITCHES[self.variant], (self.a, self.b), strict=True))):
            remedy = "set a and b to 0" if self.variant == "random_search" else "set variant to baseline"
            raise ValueError(f"objectives = {names}: variant {self.variant} rewards R_T or R_S, no objectives: {remedy}")
        if self.several and self.rescore and isinstance(self.choose, int) and self.choose > (most := self.rescore.top + 2):
            raise ValueError(f"choose = {self.choose}: a front has at most rescore.top + 2 members: choose 1 to {most}")
        return self

    @field_validator("choose", mode="before")
    @classmethod
    def _is_a_choice(cls, choice: object) -> object:
        if choice not in ("no_worse", "knee") and not (type(choice) is int and choice > 0):
            raise ValueError("must be no_worse, knee, or the number of a member, from 1")
        return choice

    @property
    def several(self) -> bool:
        """Whether the search has several objectives."""
        return self.searches and len(self.objectives) > 1

    @property
    def counts(self) -> bool:
        """Whether it matters what a candidate costs."""
        return self.budget is not None or self.several

    @property
    def searches(self) -> bool:
        """Whether the variant searches, and does not score one fixed wiring."""
        return self.variant not in FIXED

    @property
    def epochs(self) -> int:
        """Epochs of a candidate's training, 0 where whoever scores it does not say."""
        return 0

    def population(self, n_searched: int) -> int:
        """Candidates per generation in a search of ``n_searched`` genes."""
        return self.population_size or 4 + math.floor(3 * math.log(n_searched))


class Proxy(Learning):
    """`evolve.proxy`: the short training of a candidate. The settings that it does not name are those of `train`.

    It ends at a rate of 0 along a cosine, with a tenth of its steps as warm-up, without augmentation. Losses are measured on
    images of the last of its `sizes`, energy on whole ones, both with `network.T` steps.
    """

    epochs: Positive
    """E, epochs of a candidate. The paper has 2 for STE."""
    images: Positive | None = None
    """Training images of a candidate, a stratified part. null: all but the hold-out."""


class EvolveConfig(SearchConfig):
    """`evolve`: the search of genes; the paper's are the distributions of the initial wiring (Eq. 9-16)."""

    start: PathName
    """Where the search starts: `analytic` (He's variance), `unit` (all σ = 1), or a genotype.json in inputs/. With `unit`, as
    in Fig. 4, take a `bound` that reaches the analytic σ's. The file is of an earlier evolve, of the same network, width and
    number of genes: its genes that are not searched are kept, and `network.init` is null. sigma_X starts at the geometric mean
    of the σ_l."""
    proxy: Proxy
    """The short training by which candidates are scored."""

    @model_validator(mode="before")
    @classmethod
    def _is_complete(cls, values: object) -> object:
        if isinstance(values, dict) and (missing := [name for name in SearchConfig.model_fields if name not in values]):
            raise ValueError(f"lacks {', '.join(missing)}: add what is missing")
        return values

    @model_validator(mode="after")
    def _start_is_of_use(self) -> Self:
        if self.start != "analytic" and not self.searches:
            no_use = f"has no use for variant {self.variant}, which does not search: set it to analytic"
            raise ValueError(f"start = {self.start!r} {no_use}")
        return self

    @property
    def start_file(self) -> str | None:
        """The file that `start` names, if any."""
        return None if self.start in STARTS else self.start

    @property
    def epochs(self) -> int:
        """Epochs of a candidate's short training."""
        return self.proxy.epochs
