"""A candidate of the search, and its score."""

from dataclasses import dataclass

from gee_core.genome.genotype import Genotype


@dataclass(frozen=True)
class Candidate:
    """A wiring to score: the σ's, and the seed with which it is drawn from them."""

    generation: int
    index: int
    seed: int
    genotype: Genotype
    epochs: int | None = None
    """Score it after this many of the proxy's epochs (a rung of halving); None for all of them."""

    @property
    def place(self) -> tuple[int, ...]:
        """(generation, index), or at a rung (generation, index, epochs): identifies a score within an evolution."""
        return (self.generation, self.index) + ((self.epochs,) if self.epochs else ())


@dataclass(frozen=True)
class Score:
    """The measurements of a trained candidate; NaN if it failed, with the reason in ``status``."""

    L_ce: float
    R_T: float
    R_S: float
    proxy_accuracy: float
    status: str = "ok"
    image_passes: int = 0
    """Cost: number of training images seen so far, repetitions included; 0 if its worker died."""


def failed(reason: str, image_passes: int = 0) -> Score:
    """The score of a candidate that diverged or raised."""
    nan = float("nan")
    return Score(nan, nan, nan, nan, " ".join(f"failed: {reason}".split())[:500], image_passes)
