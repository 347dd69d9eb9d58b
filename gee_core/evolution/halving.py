"""Successive halving inside a generation: which candidates are trained further after a rung, and how all of them rank.

Source: Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016. There
candidates are independent draws; here they are a generation of CMA-ES, which needs a ranking of all of them.
"""

import math
from collections.abc import Sequence


def survivors(values: Sequence[float], eta: float) -> list[int]:
    """Positions, in order, of the best ⌈n/η⌉ of n fitness ``values``; ties go to the first, failed ones (NaN) are dropped."""
    ok = [position for position, value in enumerate(values) if not math.isnan(value)]
    best = sorted(ok, key=lambda position: (values[position], position))
    return sorted(best[: math.ceil(len(values) / eta)])


def rungs(epochs: int, halving: float | None) -> Sequence[int | None]:
    """The epochs after which candidates are measured: each one with halving; without, None, which means the last."""
    return [None] if halving is None else range(1, epochs + 1)


def ranked_values(values: Sequence[float], epochs: Sequence[int]) -> list[float]:
    """Fitness for ``Search.tell``: ``values`` measured after fewer epochs are raised to rank behind those after more.

    Values of the greatest ``epochs`` are not changed, so none is if no candidate was eliminated. NaN stays NaN.
    """
    raised, worst = list(map(float, values)), -math.inf
    for rung in sorted(set(epochs), reverse=True):
        group = [i for i, e in enumerate(epochs) if e == rung and not math.isnan(values[i])]
        if not group:
            continue
        least = min(values[i] for i in group)
        shift = max(0.0, worst + 1.0 - least) if math.isfinite(worst) else 0.0
        for i in group:
            raised[i] = values[i] + shift
        worst = max(worst, *(raised[i] for i in group))
    return raised
