"""The genotype, which evolution searches: the distributions of the initial wiring (Eq. 9), and the other genes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from numbers import Real
from typing import Self

from gee_core.config import NetworkConfig, Shape
from gee_core.config.genes import SETTINGS
from gee_core.config.network import encoded_channels, kernel_positions
from gee_core.config.params import check_settings

TRUNCATION = 2.0
"""Draws lie in [-2σ, 2σ]. Paper: "truncated to the interval" (formula lost). Here: ±2σ, as torch and TensorFlow do."""

TRUNCATED_VARIANCE = 1 - 2 * TRUNCATION * math.exp(-(TRUNCATION**2) / 2) / (
    math.sqrt(2 * math.pi) * math.erf(TRUNCATION / math.sqrt(2))
)
"""Variance of a standard normal truncated to ±2: 0.774. Source: Johnson, Kotz, Univariate Distributions 1, ch. 13."""


@dataclass(frozen=True)
class Genotype:
    """The standard deviations of O and of every X_l before truncation, σ_O and σ_0 … σ_L, and the other genes.

    Without any σ_l it is that of a plain network, which has no wiring: its genes are ``settings`` alone.

    Examples:
        >>> gee_core.Genotype(sigma_O=0.1, sigma_X=(0.1, 0.2)).sigma_X
        (0.1, 0.2)
    """

    sigma_O: float
    sigma_X: tuple[float, ...]
    shape: Shape = field(default_factory=Shape)
    """Paper: σ's alone. Here: genes of shape too, because batch norm removes most of the effect of a σ."""
    settings: tuple[tuple[str, float], ...] = ()
    """Name and value of every gene of neurons, plasticity and structure that is not left to the settings."""

    def __post_init__(self) -> None:
        for name, sigma in [("sigma_O", self.sigma_O), *((f"sigma_X[{l}]", sigma) for l, sigma in enumerate(self.sigma_X))]:
            if not 0 < sigma < 1e38:  # draws up to twice as large are float32
                raise ValueError(f"{name} must be > 0 and finite in float32: it is a standard deviation, got {sigma}")

    def as_dict(self) -> dict[str, float]:
        """{"sigma_O": …, "sigma_0": …, …, "omega_O": …, …, "v_threshold": …, …}."""
        if not self.sigma_X:
            return dict(self.settings)
        sigmas = {"sigma_O": self.sigma_O} | {f"sigma_{layer}": sigma for layer, sigma in enumerate(self.sigma_X)}
        return sigmas | self.shape.model_dump() | dict(self.settings)

    @classmethod
    def of(cls, genes: Mapping[str, float]) -> Self:
        """The inverse of ``as_dict``. Genes of shape that are left out are neutral.

        Raises:
            ValueError: a gene is unknown, or the setting that it replaces could not have its value.
        """
        sigma_X = takewhile(lambda name: name in genes, (f"sigma_{layer}" for layer in count()))
        sigmas = {name: genes[name] for name in ("sigma_O", *sigma_X)} if "sigma_O" in genes else {}
        shape = {name: value for name, value in genes.items() if name in Shape.model_fields}
        settings = tuple((name, value) for name, value in genes.items() if name in SETTINGS)
        if unknown := genes.keys() - sigmas.keys() - shape.keys() - dict(settings).keys():
            raise ValueError(f"{min(unknown)} is no gene of a network with {max(0, len(sigmas) - 1)} encodings")
        if wrong := next((name for name, value in settings if not isinstance(value, Real)), None):
            raise ValueError(f"{wrong} must be a number, got {genes[wrong]!r}")
        check_settings(dict(settings))
        return cls(sigmas.pop("sigma_O", 1.0), tuple(sigmas.values()), Shape(**shape), settings)

    def with_unit_sigmas(self) -> "Genotype":
        """The other genes with all σ = 1."""
        return replace(self, sigma_O=1.0, sigma_X=(1.0,) * len(self.sigma_X))


def configured_genotype(network: NetworkConfig) -> Genotype:
    """The analytic σ's of the configured network, with the shape of `network.init`; no σ's of a plain one."""
    if network.n_genes is None:
        return Genotype(1.0, ())
    channels = encoded_channels(network.name, network.width, network.tilt)
    analytic = analytic_genotype(channels, network.n_genes, kernel_positions(network.name))
    return replace(analytic, shape=network.shape)


def analytic_genotype(channels: Sequence[int], n_genes: int, kernel_positions: int = 9) -> Genotype:
    """The σ's under which every decoded weight has the variance of He's initialisation. Its shape is neutral.

    For each encoded layer l: g²·σ_l²·σ_O²·σ_{l-1}²·0.774³ = 2 / (k²·C_{l-1}). These are L equations in the L + 2
    logarithms. Of their solutions, this is the one nearest to all σ equal, so that no matrix is scaled at another's expense.

    Args:
        channels: [C_0 … C_L], the channels whose encodings are X_0 … X_L, in order of execution.
        n_genes: g.
        kernel_positions: k².
    """
    import numpy as np  # here, since who only reads genotypes needs none

    fan_in = kernel_positions * np.asarray(channels[:-1], dtype=float)
    log_product = 0.5 * np.log(2 / (fan_in * n_genes**2 * TRUNCATED_VARIANCE**3))  # log(σ_O·σ_l·σ_{l-1})
    n_layers = len(channels) - 1
    A = np.zeros((n_layers, n_layers + 2))  # columns: σ_O, σ_0 … σ_L
    A[:, 0] = 1
    for layer in range(n_layers):
        A[layer, layer + 1] = A[layer, layer + 2] = 1
    equal = np.full(n_layers + 2, log_product.mean() / 3)
    shift = np.linalg.lstsq(A, log_product - A @ equal, rcond=None)[0]
    sigma_O, *sigma_X = np.exp(equal + shift).tolist()
    return Genotype(sigma_O, tuple(sigma_X))
