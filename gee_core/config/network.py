"""The section `network`, and the networks that it may name: the user's own are registered here. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gee_core.config.genes import Shape
from gee_core.config.section import MOST_GENES, Reset, Scale, Section, Tau
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


class NetworkStructure(Section):
    """What determines a network but for its weights."""

    name: str
    """Key of `gee_core.zoo.NETWORKS`, or your own as `networks.my_vgg:MyVGG` (docs/tutorials/your-network.md)."""
    block: Literal["pre", "post"] | None
    """Residual block of the ResNets: `pre` (norm and neurons before each convolution), `post` (after it). null: `pre`."""
    pool: Literal["max", "avg"]
    """Kind of the 2x2 pools of CIFARNet and VGG. After `avg` the spikes are no longer binary."""
    width: Annotated[float, Field(gt=0, le=4)]
    """Multiplies every channel count of the paper's table."""
    tilt: Annotated[float, Field(gt=0, le=16)]
    """How many times wider the last layer gets than the stem. Below 1, the first layers are the wider ones."""
    n_genes: Annotated[int, Field(ge=1, le=MOST_GENES)] | None
    """g, number of genes of an encoding. null: the plain network."""
    neuron: Literal["lif", "ilif"]
    """`lif` fires 0 or 1, `ilif` an integer 0 … D. An integer stands for as many spikes (`gee_core.ILIF`)."""
    levels: Annotated[int, Field(ge=1, le=64)] | None
    """D, the largest integer that a neuron `ilif` fires in a step. null with `lif`."""
    T: Annotated[int, Field(ge=1, le=64)]
    """Time steps. Your own network must answer with as many."""
    tau: Tau
    """τ, membrane time constant in steps."""
    decay_input: bool
    """Of `lif`: whether the input current is divided by τ, as the leak is."""
    v_threshold: Scale
    """V_th, firing threshold, and of `ilif` the current per spike."""
    v_reset: Reset | None
    """Of `lif`: membrane potential after a spike. null: V_th is subtracted (soft reset)."""
    detach_reset: bool
    """Whether the gradient ignores the reset."""
    surrogate: Literal["piecewise_quadratic", "atan", "sigmoid"]
    """Of `lif`: surrogate gradient, key of `gee_core.snn.lif.SURROGATES`."""
    surrogate_alpha: Scale
    """Of `lif`: α, slope of the surrogate gradient."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in NETWORKS and not is_own(name):
            own = "or name your own as package.module:NAME, for instance networks.my_vgg:MyVGG"
            raise ValueError(f"unknown network: choose one of {', '.join(NETWORKS)}, {own}")
        return name

    @field_validator("block")
    @classmethod
    def _block_of_the_network(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (name := info.data.get("name")) is None:  # unknown, and refused
            return value
        default = default_block(name)
        if value is not None and default is None:
            reason = "is your own network, and block is for those of the table" if is_own(name) else "has no residual blocks"
            raise ValueError(f"{name} {reason}: set it to null")
        return value or default

    @field_validator("tilt")
    @classmethod
    def _tilt_of_the_table(cls, value: float, info: ValidationInfo) -> float:
        if value != 1 and is_own(name := info.data.get("name", "")):
            raise ValueError(f"{name} is your own network, and tilt is for those of the table: set it to 1")
        return value

    @model_validator(mode="after")
    def _levels_of_the_neuron(self) -> Self:
        if self.neuron == "lif" and self.levels is not None:
            raise ValueError(f"levels = {self.levels} is for neuron = ilif: set it to null")
        if self.neuron == "ilif" and self.levels is None:
            raise ValueError("neuron = ilif needs levels: set it to D, for instance 4")
        return self


class NetworkConfig(NetworkStructure):
    """`network`: the network that is evolved, trained and measured."""

    init: Shape | None
    """Genes of shape at which the wiring, or plain weights, start; those not named, and all if null, are neutral."""

    @property
    def shape(self) -> Shape:
        """`init`, neutral where it is null."""
        return self.init or Shape()

    def structure(self) -> NetworkStructure:
        """What a checkpoint says about the network."""
        return NetworkStructure.model_validate(self.model_dump(exclude={"init"}))
