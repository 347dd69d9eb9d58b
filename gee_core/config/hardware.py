"""`robustness.hardware`: the defects of hardware that the trained network is measured under."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from gee_core.config.section import Fraction, Positive, Section, Weight


def rising(strengths: list) -> list:
    """Validator: ``strengths`` rise, without repeats."""
    if sorted(set(strengths)) != strengths:
        raise ValueError("must rise, without repeats")
    return strengths


_some = Field(min_length=1, max_length=100)
Sigmas = Annotated[list[Weight], _some, AfterValidator(rising)]
Shares = Annotated[list[Fraction], _some, AfterValidator(rising)]
Steps = Annotated[list[Annotated[int, Field(ge=0, le=64)]], _some, AfterValidator(rising)]


class Hardware(Section):
    """`robustness.hardware`: which defects of chips, at which strengths; a domain that is null is not measured."""

    n_draws: Positive
    """Draws of each defect at each strength; the report shows their mean and range."""
    max_images: Positive | None
    """Use at most this many test images, a random part that is the same in every run; null for all."""
    weights: Sigmas | None = None
    """Gaussian noise on the decoded weights of the encoded convolutions: σ over the root mean square of each layer's."""
    genes: Sigmas | None = None
    """The same on every X_l and O, before the weights are decoded; a plain network has none."""
    stuck: Shares | None = None
    """Probability of each of those weights to be stuck at zero."""
    threshold: Sigmas | None = None
    """Mismatch of the neurons: V_th·(1 + δ) with δ ~ N(0, σ²), fixed over images and steps; these are the σ's."""
    dropped: Shares | None = None
    """Probability of every spike to be lost."""
    spurious: Shares | None = None
    """Probability of every neuron that is silent in a step to fire."""
    lost_step: Steps | None = None
    """How many of the T steps are lost: no spike leaves any neuron in them."""
    weight_bits: Shares | None = None
    """Probability of every bit of the int8 codes of those weights to flip; 0 is the int8 network without flips."""
    gene_bits: Shares | None = None
    """The same of every X_l and O in int8; a plain network has none."""

    @model_validator(mode="after")
    def _names_a_domain(self) -> Self:
        if not self.strengths():
            raise ValueError(f"names no domain: give strengths to one of {', '.join(DOMAINS)}, or set it to null")
        return self

    def strengths(self) -> dict[str, list[float]]:
        """The strengths of the domains that are to be measured, by domain."""
        return {domain: found for domain in DOMAINS if (found := getattr(self, domain)) is not None}


DOMAINS = tuple(name for name in Hardware.model_fields if name not in ("n_draws", "max_images"))
"""The names of the defects."""
