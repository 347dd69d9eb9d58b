"""The fitness of a candidate (Eq. 16). No torch here."""

import math

from gee_core.config import EvolveConfig
from gee_core.config.evolve import SWITCHES
from gee_core.evolution.candidate import Score


def regulariser_decay(generation: int, tau_lambda: float) -> float:
    """λ(t) = exp(-t / τ_λ), t from 0.

    Paper: "decreases with the generations" (formula lost). Here: exponentially.
    """
    return math.exp(-generation / tau_lambda)


def fitness(score: Score, decay: float, cfg: EvolveConfig) -> float:
    """F = L_ce - λ·(a·R_T + b·R_S), minimised, Eq. 16; NaN if the candidate failed.

    A variant without a regulariser has its weight at 0.
    """
    use_R_T, use_R_S = SWITCHES[cfg.variant]
    return score.L_ce - decay * (cfg.a * score.R_T * use_R_T + cfg.b * score.R_S * use_R_S)
