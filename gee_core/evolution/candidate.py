"""A candidate of the search, the task of its short training, its score, and the record that keeps both. No torch here."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig
from gee_core.genome.genotype import Genotype
from gee_core.settings import SAVE_SECONDS

Key = tuple[int, int, str]
"""Identifies a scored wiring: see ``Candidate.key``."""

START, MEAN = "0-0", "mean"
"""`Candidate.rescored` of the first candidate, the start of a search, and of the mean of CMA-ES's distribution."""


@dataclass(frozen=True)
class Price:
    """The price of a network."""

    parameters: int
    """Parameters, genes in place of the weights that they encode."""
    bytes: int
    """Bytes of all its numbers in a file of genes in int8."""
    steps: int
    """Time steps T."""
    energy_uj: float
    """Energy per image in µJ (Eq. 17), without building W."""
    own_ratio: float = math.nan
    """Parameters over those of this network with plain weights."""


@dataclass(frozen=True)
class Candidate:
    """A wiring to score: the genotype, and the seed of its draw, its weights and the order of its images."""

    generation: int
    index: int
    seed: int
    """Shared by all candidates of a generation (common random numbers), so that only their genotypes tell them apart."""
    genotype: Genotype
    price: Price | None = None
    """Its price before it is trained, under a budget. Its energy is as expected from an earlier training, if there was one."""
    rescored: str = ""
    """A fresh draw repeats this candidate, by its `label`, or the "mean" of CMA-ES's distribution. Empty in the search."""
    draw: int = 0
    """The number of its fresh seed, from 0."""

    @property
    def place(self) -> tuple[int, int]:
        """(generation, index): identifies a score within an evolution."""
        return self.generation, self.index

    @property
    def label(self) -> str:
        """The name "generation-index", by which `rescored` refers to a candidate of the search."""
        return f"{self.generation}-{self.index}"

    @property
    def origin(self) -> str:
        """The `label` of the candidate that it repeats, or "mean". Its own in the search."""
        return self.rescored or self.label

    @property
    def name(self) -> str:
        """The name of its run in MLflow and of its trained network."""
        if self.rescored:
            return f"rescore-{self.rescored}-draw{self.draw}"
        return f"gen{self.generation}-cand{self.index}"

    @property
    def wiring(self) -> str:
        """Digest of its genotype and seed."""
        return hashlib.sha256(json.dumps([self.seed, self.genotype.as_dict()]).encode()).hexdigest()[:16]

    @property
    def key(self) -> Key:
        """Its place and wiring: a repeated search may ask for another wiring in the same place."""
        return (*self.place, self.wiring)


@dataclass(frozen=True)
class ProxyTask:
    """The part that all candidates of an evolution have in common."""

    prepared: Path
    base: BaseConfig
    network: NetworkConfig
    evolve: EvolveConfig
    checkpoints: Path | None = None
    """Folder for the states of every candidate's training run. With None nothing is saved."""
    save_seconds: float = SAVE_SECONDS
    """Least number of seconds between two states within an epoch."""
    pj: tuple[float, float] = (4.6, 0.9)
    """E_MAC and E_AC of `evaluate`, in pJ."""


class Failure(StrEnum):
    """The kinds of failure of a candidate."""

    DIVERGED = "diverged"
    """One of its numbers was not finite or too large."""
    GPU_MEMORY = "GPU memory"
    """A GPU's memory was too small for it, or for all candidates that the GPU held at that moment."""
    MEMORY = "memory"
    """The machine's memory ran out, or the worker process died."""
    CODE = "code"
    """The network's code, or a library, raised another error."""
    BUDGET = "budget"
    """Its network costs more than `evolve.budget` allows."""


@dataclass(frozen=True)
class Score:
    """The measurements of a trained candidate, or NaN if it failed, with the reason in ``status``.

    A search by the variant ``baseline`` on the loss alone needs ``L_ce`` alone.
    """

    L_ce: float
    TSE: float = math.nan
    """Mean training loss over all steps of the proxy training."""
    R_T: float = 0.0
    var_o: float = math.nan
    """Variance of the output o over images, steps and outputs."""
    R_S: float = 0.0
    proxy_accuracy: float = math.nan
    status: str = "ok"
    image_passes: int = 0
    """Cost: number of training images seen, repetitions included. 0 if its worker died."""
    energy_uj: float = math.nan
    """Energy per image in µJ (Eq. 17) after its training, under a budget."""
    excess: float = 0.0
    """How far it is outside of the budget: the sum of the parts by which it exceeds limits. Its status says which."""
    failure: Failure | None = None
    """The kind of failure, whose reason is in ``status``."""
    dead: bool = False
    """Whether its loss is at least that of the best constant answer. Such a network has no fitness."""

    @property
    def repeatable(self) -> bool:
        """Whether the next attempt would end the same: not where memory or code failed."""
        return self.failure in (None, Failure.DIVERGED, Failure.BUDGET)


Scored = tuple[Candidate, Score, float]
"""A candidate, its score and its seconds."""


def failed(reason: str, failure: Failure = Failure.DIVERGED, image_passes: int = 0) -> Score:
    """The score of a candidate that failed for ``reason``."""
    nan, status = math.nan, " ".join(f"failed: {reason}".split())[:500]
    return Score(nan, nan, nan, nan, nan, nan, status, image_passes, failure=failure)


@dataclass(frozen=True)
class Record:
    """A scored candidate."""

    candidate: Candidate
    score: Score
    decay: float
    """λ(t) of its generation, or of the last generation where it is scored again."""
    fitness: float
    """F with that λ, or NaN if it failed."""
    seconds: float
    """Wall time of its scoring, or 0 if it was not measured."""
    epochs: int = 0
    """`evolve.proxy.epochs`."""
    state: dict[str, float] = field(default_factory=dict)
    """CMA-ES's distribution that it was drawn from, by column: step size, axis ratio, mean and standard deviation by gene."""

    @property
    def ok(self) -> bool:
        """Whether the candidate trained and was measured."""
        return self.score.status == "ok"

    def identity(self) -> dict[str, object]:
        """The columns that identify its candidate, and its status."""
        c = self.candidate
        values = {"generation": c.generation, "index": c.index, "rescored": c.rescored}
        return values | {"seed": c.seed, "status": self.score.status}

    def metrics(self) -> dict[str, float]:
        """Its measurements."""
        s = self.score
        losses = {"fitness": self.fitness, "L_ce": s.L_ce, "TSE": s.TSE, "R_T": s.R_T, "var_o": s.var_o, "R_S": s.R_S}
        cost = {"epochs": self.epochs, "image_passes": s.image_passes}
        return losses | {"lambda": self.decay, "proxy_accuracy": s.proxy_accuracy} | cost

    def price(self) -> dict[str, float]:
        """The price of its network. Its energy is that after the training, `counted_uj` that before."""
        if self.candidate.price is None:
            return {}
        price = asdict(self.candidate.price)
        return price | {"energy_uj": self.score.energy_uj, "counted_uj": price["energy_uj"], "excess": self.score.excess}

    @property
    def energy_factor(self) -> float:
        """Its energy after the training over that counted before, 1 where one of them is not known."""
        before = self.candidate.price
        return self.score.energy_uj / before.energy_uj if before and self.score.energy_uj > 0 else 1.0
