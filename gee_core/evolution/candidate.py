"""A candidate of the search, and what scoring it gives."""

from dataclasses import dataclass

from gee_core.genome.genotype import Genotype


@dataclass(frozen=True)
class Candidate:
    """A wiring to score: σ's, and the seed of the draw from them."""

    generation: int
    index: int
    seed: int
    genotype: Genotype
    epochs: int | None = None
    """Score it after this many of the proxy's epochs (a rung of halving); None for all of them."""

    @property
    def place(self) -> tuple[int, ...]:
        """(generation, index), at a rung (generation, index, epochs): names a score within an evolution."""
        return (self.generation, self.index) + ((self.epochs,) if self.epochs else ())


@dataclass(frozen=True)
class Score:
    """What the proxy training of a candidate came to; NaN where it failed, with the reason in ``status``."""

    L_ce: float
    R_T: float
    R_S: float
    proxy_accuracy: float
    status: str = "ok"
    image_passes: int = 0
    """Cost: training images seen until here, each as often as it was seen; 0 where its worker died."""


def failed(reason: str, image_passes: int = 0) -> Score:
    """The score of a candidate that diverged or raised."""
    nan = float("nan")
    return Score(nan, nan, nan, nan, " ".join(f"failed: {reason}".split())[:500], image_passes)
