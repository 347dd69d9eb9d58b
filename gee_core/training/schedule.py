"""The learning rate over the steps of training."""

import math


def learning_rate(
    step: int, n_steps: int, n_warmup: int, lr: float, lr_min: float = 0.0, cooldown: float | None = None
) -> float:
    """The learning rate of step 0 … n_steps-1: linear up to ``lr`` over ``n_warmup`` steps, then down to ``lr_min``.

    Without ``cooldown`` it falls along a cosine. With it, it stays at ``lr`` and falls linearly in the last ``cooldown``
    (0 to 1) of all steps, or in all those after the warm-up if these are fewer.

    Sources: Loshchilov, Hutter, SGDR, 2017, Eq. 5, without restarts; Hägele et al., Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations, 2024, Sec. 3.
    """
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    start = n_warmup if cooldown is None else max(n_warmup, n_steps - round(cooldown * n_steps))
    progress = max(0, step - start) / max(1, n_steps - 1 - start)
    part = 0.5 * (1 + math.cos(math.pi * progress)) if cooldown is None else 1 - progress
    return lr_min + part * (lr - lr_min)
