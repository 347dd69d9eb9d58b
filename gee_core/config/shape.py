"""The genes of shape: what the distributions of the initial wiring look like, besides their σ's, and which are searched."""

from typing import Annotated

from pydantic import Field

from gee_core.config.section import Section


class Shape(Section):
    """The shape of the initial draws; a gene that is not named is neutral, and a neutral gene changes no bit of them.

    Batch norm removes the effect of a σ, but not that of these genes. In a plain network ω_X, β and ρ shape the weights
    themselves, and ω_O, α and κ, which have nothing to act on, are left out.
    """

    omega_O: Annotated[float, Field(ge=0, le=1)] = 0.0
    """ω_O: the singular values of O are raised to 1 - ω_O, its Frobenius norm kept; 0 = as drawn, 1 = orthogonal."""
    omega_X: Annotated[float, Field(ge=0, le=1)] = 0.0
    """ω_X: the singular values of every X_l[p], likewise."""
    beta: Annotated[float, Field(ge=0, le=4)] = 0.0
    """β: X_l[p] is multiplied by c·exp(-β·d²/2), d the distance of position p from the kernel's centre in pixels, so that W[p]
    is proportional to exp(-β·d²); c keeps the expected norm of W. 0 = flat kernels."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    """α: O becomes √(1-α²)·O + α·I with its norm kept; 1 = a multiple of the identity."""
    kappa: Annotated[float, Field(ge=0, le=1)] = 0.0
    """κ: correlation of X_l with X_{l-1} at the kernel's centre, neuron by neuron (repeated where layer l has more)."""
    rho: Annotated[float, Field(ge=0, le=1)] = 0.0
    """ρ: correlation of X_l between kernel positions, and ρ² that of W; 0 = independent, 1 = every position alike."""
    gamma_0: Annotated[float, Field(ge=0.05, le=20)] = 1.0
    """γ_0: initial weight of every batch norm: the spread of the currents, and so the firing rate."""
    gamma_end: Annotated[float, Field(ge=0.05, le=20)] = 1.0
    """γ_end: a factor on the initial weight of the last batch norm of every residual branch. Networks without residual blocks
    do not use it."""
    slope: Annotated[float, Field(ge=-4, le=4)] = 0.0
    """slope: the σ of the last convolution of residual branch b of B is multiplied by exp(slope·(b/(B-1) - 1/2)), b from 0;
    with `network.block = pre`, the gain of the branches over depth. Networks without residual blocks do not use it."""

    def is_neutral(self) -> bool:
        """Whether no gene changes anything."""
        return self == Shape()


SEARCH_RANGES = {
    "omega_O": (0.0, 1.0),
    "omega_X": (0.0, 1.0),
    "beta": (0.0, 2.0),
    "alpha": (0.0, 0.95),
    "kappa": (0.0, 0.95),
    "rho": (0.0, 0.95),
    "gamma_0": (0.25, 4.0),
    "gamma_end": (0.25, 4.0),
    "slope": (-2.0, 2.0),
}
"""Least and greatest value of every gene of shape in a search, narrower than `Shape` allows."""

SHAPE_GENES = ("omega_O", "omega_X", "beta", "alpha", "kappa", "rho", "gamma_0")
"""The genes of shape that the form `shape` searches in every network, besides ``sigma``, one factor on all σ_l."""

BRANCH_GENES = ("gamma_end", "slope")
"""Those that it searches too where there are residual blocks."""


def searched_genes(form: str, n_encodings: int, has_branches: bool) -> tuple[str, ...]:
    """The genes that `evolve.genotype` = ``form`` searches, in the order of the search vector; ``n_encodings`` is L + 1."""
    if form == "shape":
        return ("sigma", *SHAPE_GENES, *(BRANCH_GENES if has_branches else ()))
    if form == "shared":
        return ("sigma_O", "sigma_X")
    return ("sigma_O", *(f"sigma_{layer}" for layer in range(n_encodings)))
