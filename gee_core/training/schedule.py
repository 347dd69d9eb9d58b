"""The learning rate over the steps of training."""

import math


def cosine_with_warmup(step: int, n_steps: int, n_warmup: int, lr: float, lr_min: float = 0.0) -> float:
    """The learning rate of step 0 … n_steps-1: linear up to ``lr`` over ``n_warmup`` steps, then a cosine to ``lr_min``.

    Source: Loshchilov, Hutter, SGDR, 2017, Eq. 5, without restarts.
    """
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - 1 - n_warmup)
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * progress))
