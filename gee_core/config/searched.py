"""Which genes each form of the genotype searches, and where."""

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
    """The genes that `evolve.genotype` = ``form`` searches, in the order of the search vector.

    Args:
        form: `per_layer`, `shared` or `shape`.
        n_encodings: L + 1.
        has_branches: whether the network has residual branches.
    """
    if form == "shape":
        return ("sigma", *SHAPE_GENES, *(BRANCH_GENES if has_branches else ()))
    if form == "shared":
        return ("sigma_O", "sigma_X")
    return ("sigma_O", *(f"sigma_{layer}" for layer in range(n_encodings)))
