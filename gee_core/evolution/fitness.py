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
    """F = L - λ·(a·R_T + b·R_S), minimised, Eq. 16; NaN if the candidate failed.

    L is L_ce or TSE, by `evolve.fitness`; R_T is that of Eq. 13 or divided by the variance of o, by `evolve.temporal`. A
    variant without a regulariser has its weight at 0.
    """
    use_R_T, use_R_S = SWITCHES[cfg.variant]
    loss, R_T = score.TSE if cfg.fitness == "tse" else score.L_ce, score.R_T
    if cfg.temporal == "relative":
        R_T = R_T / score.var_o if score.var_o > 0 else 0.0
    return loss - decay * (cfg.a * R_T * use_R_T + cfg.b * score.R_S * use_R_S)
