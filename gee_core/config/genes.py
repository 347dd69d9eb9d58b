"""The genes: all numbers that evolve can search, their ranges and what they act on. To add one, add an entry to ``GENES``."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field

from gee_core.config.section import MOST_GENES, Section
from gee_core.errors import InputError, did_you_mean


class Shape(Section):
    """The shape of the initial draws; a gene that is not named is neutral, and a neutral gene changes no bit of them.

    Batch norm removes the effect of a σ, but not that of these genes. In a plain network ω_X and β shape the weights
    themselves, and ω_O, which has nothing to act on, is left out.

    Examples:
        >>> gee_core.Shape(beta=0.5)
        Shape(omega_O=0.0, omega_X=0.0, beta=0.5)
    """

    omega_O: Annotated[float, Field(ge=0, le=1)] = 0.0
    """ω_O: the singular values of O are raised to 1 - ω_O, its Frobenius norm kept; 0 = as drawn, 1 = orthogonal."""
    omega_X: Annotated[float, Field(ge=0, le=1)] = 0.0
    """ω_X: the singular values of every X_l[p], likewise."""
    beta: Annotated[float, Field(ge=0, le=4)] = 0.0
    """β: W[p] is proportional to exp(-β·d²), d the distance from the kernel's centre. X_l[p] is multiplied by c·exp(-β·d²/2),
    d in pixels; c keeps the expected norm of W. 0 = flat kernels."""

    def is_neutral(self) -> bool:
        """Whether no gene changes anything."""
        return self == Shape()


@dataclass(frozen=True)
class Gene:
    """A number that evolve can search, from ``low`` to ``high``, or to its start where that lies outside.

    Those of neurons, plasticity and structure are named as the settings that they replace. Of a ``log`` gene equal factors are
    equal steps. ``relative``: the range is one of factors on the value at the start.
    """

    group: str
    low: float
    high: float
    about: str
    """Symbol and meaning."""
    log: bool = True
    integer: bool = False
    relative: bool = False
    most: float = math.inf
    """Greatest value of a relative gene, as that of its setting."""
    neuron: str = ""
    """The `network.neuron` that has it, where the other has not."""

    def scaled(self, value: float) -> float:
        """``value`` on the scale on which steps are equal."""
        return math.log(value) if self.log else value


GENES = {
    "sigma_O": Gene("wiring", 0, 0, "σ_O: standard deviation of O, from its start divided to multiplied by evolve.bound"),
    "sigma_X": Gene("wiring", 0, 0, "σ_X: one standard deviation of all X_l, in place of σ_0 … σ_L"),
    "omega_O": Gene("shape", 0.0, 1.0, "ω_O: flatness of O’s singular values", log=False),
    "omega_X": Gene("shape", 0.0, 1.0, "ω_X: flatness of the singular values of every X_l[p]", log=False),
    "beta": Gene("shape", 0.0, 2.0, "β: decay of a kernel from its centre", log=False),
    "v_threshold": Gene("neurons", 0.1, 2.0, "V_th: firing threshold, or current per spike"),
    "tau": Gene("neurons", 1.15, 4.0, "τ: membrane time constant in steps"),
    "surrogate_alpha": Gene("neurons", 0.7, 4.0, "α: slope of the surrogate gradient", neuron="lif"),
    "levels": Gene("neurons", 1, 16, "D: the largest integer that a neuron fires", integer=True, neuron="ilif"),
    "lr": Gene("plasticity", 1e-3, 5e-2, "lr: peak learning rate"),
    "lr_X": Gene("plasticity", 0.1, 4.0, "lr_X: factor on the learning rate of X"),
    "lr_O": Gene("plasticity", 0.02, 2.0, "lr_O: factor on the learning rate of O"),
    "weight_decay": Gene("plasticity", 1e-4, 0.3, "weight_decay: weight decay of the optimiser"),
    "width": Gene("structure", 0.5, 2.0, "width: factor on all channels", relative=True, most=4.0),
    "tilt": Gene("structure", 0.5, 2.0, "tilt: channels of the last layer over those of the stem, beside width"),
    "n_genes": Gene("structure", 1 / 3, 3.0, "g: number of genes", integer=True, relative=True, most=MOST_GENES),
    "T": Gene("structure", 1, 8, "T: time steps", integer=True),
}
"""By name. σ_0 … σ_L, ``sigma_0`` …, are one more gene of ``wiring`` per layer, which a network determines."""

GROUPS = tuple(dict.fromkeys(gene.group for gene in GENES.values()))
"""A group stands for all of its genes; ``wiring`` for σ_O and σ_0 … σ_L."""

SETTINGS = tuple(name for name, gene in GENES.items() if gene.group not in ("wiring", "shape"))
"""The genes that replace settings: of `network`, or of the recipes in `evolve` and `train`."""

PLAIN = {*SETTINGS} - {"n_genes", "lr_X", "lr_O"}
"""The genes of plain networks."""

AnySection = TypeVar("AnySection", bound=Section)


def check_genes(names: Sequence[str]) -> None:
    """Raise ``InputError`` for a name in `evolve.genes` that is no group and no gene, or for one that stands there twice."""
    known, found = [*GROUPS, *GENES], searched_genes(names, 2, "lif")
    for name in names:
        if name not in known and not re.fullmatch(r"sigma_\d+", name):
            remedy = did_you_mean(name, known) or f"the groups are {', '.join(GROUPS)}; the genes {', '.join(GENES)}, sigma_0 …"
            raise InputError(f"{name!r} is no gene and no group", remedy)
    if twice := next((gene for gene in found if found.count(gene) > 1), None):
        raise InputError(f"{twice!r} is named twice", "leave out the gene or its group")
    if "sigma_X" in found and any(re.fullmatch(r"sigma_\d+", gene) for gene in found):
        raise InputError("sigma_X sets all σ_l, which wiring or sigma_l set too", "leave out one of the two")


def searched_genes(names: Iterable[str], n_encodings: int, neuron: str) -> tuple[str, ...]:
    """The genes of `evolve.genes` = ``names`` in the order of the search vector; ``n_encodings`` is L + 1.

    A group stands for those of its genes that the ``neuron`` has.
    """
    of_neuron = {name: gene.group for name, gene in GENES.items() if gene.neuron in ("", neuron)}
    groups = {group: [name for name, own in of_neuron.items() if own == group] for group in GROUPS}
    groups["wiring"] = ["sigma_O", *(f"sigma_{layer}" for layer in range(n_encodings))]
    return tuple(gene for name in names for gene in groups.get(name, [name]))


def with_genes(section: AnySection, values: Mapping[str, float]) -> AnySection:
    """``section`` with the genes among ``values`` that are its settings."""
    own = {name: values[name] for name in SETTINGS if name in values and name in type(section).model_fields}
    return section.model_copy(update=own) if own else section
