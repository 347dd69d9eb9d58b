"""Independent random generators, each derived from the seed of the run and the names of its purpose.

No generator is passed on from call to call: epoch 7 of a training run draws the same numbers whether epochs 1-6 ran in this
process or before a restart.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gee_core.errors import InputError, as_int

if TYPE_CHECKING:  # torch is imported inside functions: evolve derives seeds and does without it
    import torch


def check_seed(seed: int) -> int:
    """``seed``, NumPy's too, as an int that torch's generators take, or an InputError."""
    number = as_int(seed)
    if number is None or not -(2**63) <= number < 2**64:
        raise InputError(f"seed = {seed!r}", "must be an int from -2**63 to 2**64 - 1")
    return number


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose ``names``: equal inputs give equal seeds, others independent ones."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: str | int) -> "torch.Generator":
    """A torch generator on the CPU for the purpose ``names``."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *names))


@contextmanager
def private_torch_rng(seed: int, device: "torch.device | None" = None) -> Iterator[None]:
    """Context in which torch's global CPU generator, and that of a CUDA ``device``, start at ``seed``; restored on exit."""
    import torch

    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
