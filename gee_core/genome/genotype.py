"""The genotype: the standard deviations of the initial wiring, which evolution searches (Eq. 9)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Genotype:
    """σ_O and σ_0 … σ_L: standard deviations of O and of every X_l before truncation."""

    sigma_O: float
    sigma_X: tuple[float, ...]

    def as_dict(self) -> dict[str, float]:
        """{"sigma_O": …, "sigma_0": …, …}."""
        return {"sigma_O": self.sigma_O} | {f"sigma_{layer}": sigma for layer, sigma in enumerate(self.sigma_X)}
