"""The networks that are known by name: the user's own are registered here; channels and kernel sizes of all. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gee_core.zoo import NETWORKS, A, Block, P


@dataclass(frozen=True)
class Own:
    """A registered network."""

    build: Callable[..., Any]
    """The user's class or function, which returns a module."""
    chain: Callable[[float | None], tuple[list[int], int]]
    """[C_0 … C_L] at a width, or None for any, and k²; raises ValueError where the network cannot be built."""
    trials: dict[Any, Any] = field(default_factory=dict)
    """What was found out about it, by what it was built with."""


OWN: dict[str, Own] = {}
"""What ``register_network`` made known in this process."""


def is_own(name: str) -> bool:
    """Whether a network's name has the form of an own network's, ``package.module:NAME``."""
    module, colon, attribute = str(name).partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), attribute])


def registered(name: str) -> Own:
    """The own network ``name``; a ValueError if nobody has registered it."""
    if name not in OWN:
        raise ValueError(f"{name} is not registered: gee_core.register_network makes a class or function known by this name")
    return OWN[name]


def default_block(name: str) -> str | None:
    """The form of the residual blocks of any network, ``pre``; None where it is not of ``NETWORKS``, or has none there."""
    return "pre" if not is_own(name) and any(isinstance(layer, Block) for layer in NETWORKS[name].body) else None


def least_side(name: str, image_size: int) -> int:
    """The least side of images in pixels on which any network runs that is built for ``image_size``; 1 of an own one."""
    if is_own(name):
        return 1
    spec, built_for = NETWORKS[name], image_size
    if spec.imagenet_stem:  # its two strides leave ⌈⌈side / 2⌉ / 2⌉ pixels
        built_for = -(-built_for // 4)
    halvings = min(sum(layer in (P, A) for layer in spec.body), built_for.bit_length() - 1)
    return 4 * 2**halvings - 3 if spec.imagenet_stem else 2**halvings


def encoded_channels(name: str, width: float = 1.0, tilt: float = 1.0) -> list[int]:
    """[C_0 … C_L] of any network, of the stem and every encoded convolution; ValueError of an own one that cannot be built."""
    if is_own(name):
        return registered(name).chain(width)[0]
    spec = NETWORKS[name].scaled(width, tilt)
    return [spec.stem, *spec.convolutions()]


def kernel_positions(name: str) -> int:
    """k² of any network: the kernel positions of its encoded convolutions; raises as ``encoded_channels`` does."""
    return registered(name).chain(None)[1] if is_own(name) else NETWORKS[name].kernel ** 2


def genes_and_weights(name: str, width: float, n_genes: int, tilt: float = 1.0) -> tuple[int, int]:
    """How many numbers O and all X_l are with ``n_genes`` genes, and how many weights they take the place of."""
    channels, K = encoded_channels(name, width, tilt), kernel_positions(name)
    return n_genes * (n_genes + K * sum(channels)), K * sum(I * J for I, J in pairwise(channels))
