"""The section `evolve`."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gee_core.config.genes import check_genes, searched_genes
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
    """`evolve.budget`: the most that a network may cost. All is counted before a network is trained.

    Under any budget, a candidate has no more parameters than the same network with plain weights.
    """

    parameters: Positive | None = None
    """Parameters, genes in place of the weights that they encode."""
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    """Parameters as a part of those of the plain network that the section `network` describes."""
    bytes: Positive | None = None
    """Bytes of all numbers in a file of genes in int8, without its header."""
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Energy per image as a part of that of the start, the network that the section `network` describes."""
    energy_uj: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Energy per image in µJ by Eq. 17, without building W. Of `energy` and this, the lower limit counts."""
    steps: Annotated[int, Field(ge=1, le=64)] | None = None
    """Time steps T."""

    def limits(self, start_uj: float, plain_parameters: int) -> dict[str, float]:
        """The limits by the name of a cost.

        The start of the search needs ``start_uj`` per image, the network of the section `network` has ``plain_parameters``.
        """
        named = self.model_dump(exclude={"energy", "ratio"}, exclude_none=True) | {"own_ratio": 1.0}
        if self.ratio is not None:
            named["parameters"] = min(named.get("parameters", math.inf), math.floor(self.ratio * plain_parameters))
        if self.energy is not None:
            named["energy_uj"] = min(named.get("energy_uj", math.inf), self.energy * start_uj)
        return named


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
    """Limits on a network. With the gene `width` among `genes`, each candidate gets the greatest width within the limits, up to
    twice its setting, and all other genes are drawn. So does the start of the search, which is usually narrowed by it. Without
    that gene, candidates outside are not trained, and rank after all others by how far they are outside. null: no limit."""
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
    def _draws_a_gene(self) -> Self:
        if self.solves_width and self.genes == ["width"]:
            raise ValueError("genes = ['width']: with a budget the width is not drawn: add another gene, such as tilt")
        return self

    @property
    def counts(self) -> bool:
        """Whether it matters what a candidate costs."""
        return self.searches and self.budget is not None

    @property
    def solves_width(self) -> bool:
        """Whether the width of a candidate is the greatest within the budget, and not drawn."""
        return self.counts and "width" in searched_genes(self.genes, 0, "lif")

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
