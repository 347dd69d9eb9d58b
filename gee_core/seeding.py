"""One seed → independent named random generators, so that no part of a run disturbs another's draws.

A generator is derived from a seed and the names of its purpose, not handed on from call to call: epoch 7 of a training
draws the same numbers whether epochs 1-6 ran in this process or before a restart.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose ``names``: equal inputs give equal seeds, others independent ones."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` for the purpose ``names``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the purpose ``names``."""
    return np.random.default_rng(derive_seed(seed, *names))


@contextmanager
def private_torch_rng(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator starts at ``seed``; afterwards it is as it was.

    For library code that draws from the global generator only (torchvision's transforms).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
