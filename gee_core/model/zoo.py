"""What follows from the name of a network in the table ``NETWORKS`` of ``gee_core/zoo.py``; no torch."""

from gee_core.model.spec import Block
from gee_core.zoo import NETWORKS


def default_block(name: str) -> str | None:
    """The form of the residual blocks of a network of ``NETWORKS``, ``pre``; None where it has none."""
    return "pre" if any(isinstance(layer, Block) for layer in NETWORKS[name].body) else None


def scaled(channels: int, width: float) -> int:
    """A channel count of the table at a width."""
    return max(1, round(channels * width))
