"""Configured networks: built from the section `network`, wired with a genotype, described in a file and rebuilt from it."""

import inspect
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from gee_core.config import Events, NetworkConfig, NetworkStructure
from gee_core.config.network import OWN, encoded_channels, is_own, registered
from gee_core.errors import DivergedError, InputError, as_input_error
from gee_core.genome.copying import check_values
from gee_core.genome.encoding import check_parametrizations, genome_of
from gee_core.genome.genotype import Genotype
from gee_core.genome.wiring import shape_weight
from gee_core.model.base import Architecture, SpikingNetwork, check_unwrapped, settings_of, to_channels_last
from gee_core.model.network import build, count_parameters
from gee_core.seeding import derive_seed, torch_generator
from gee_core.storage.json_object import as_model

WIDTH_STEPS = 10_000
"""Steps of the width, per unit."""


class ImageShape(Protocol):
    """The images of a network, such as ``data.meta.Meta``."""

    @property
    def num_classes(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def events(self) -> Events | None: ...


def wired_network(network: NetworkConfig, meta: ImageShape, genotype: Genotype | None, seed: int) -> SpikingNetwork:
    """The configured network for images of the shape ``meta``, its wiring drawn from the genotype with ``seed``.

    None draws from the analytic wiring with the shape of `network.init`, which shapes the He weights of a plain network too.
    """
    weights_seed = derive_seed(seed, "weights")
    net = build(describe(network, meta), weights_seed)
    genome, shape = genome_of(net), network.shape
    if genome is None:
        for conv in net.conv_chain()[1:] if not shape.is_neutral() else ():
            conv.weight.data.copy_(shape_weight(conv.weight.detach(), shape))
    elif genotype is None:
        genome.initialise(replace(genome.analytic_genotype(), shape=shape), torch.Generator().manual_seed(weights_seed))
    else:
        genome.initialise(genotype, torch_generator(seed, "wiring"))
    return net


def describe(network: NetworkConfig | NetworkStructure, images: ImageShape) -> Architecture:
    """The architecture of the configured network for ``images``."""
    structure = network.structure() if isinstance(network, NetworkConfig) else network
    sizes = {"num_classes": images.num_classes, "in_channels": images.in_channels, "image_size": images.image_size}
    return Architecture.model_validate({"network": structure} | sizes)


def empty_network(architecture: Architecture) -> SpikingNetwork:
    """The network without numbers, on the meta device. An own network lies on the CPU, with the weights of its own code."""
    with torch.device("meta"):
        return build(architecture, 0)


def architecture_of(net: nn.Module) -> Architecture:
    """The architecture of a network of ``build_network``, encoded or decoded since or not. Raises ValueError for others."""
    check_unwrapped(net)
    built_with = getattr(net, "built_with", None)
    if not isinstance(net, SpikingNetwork) or built_with is None:
        raise ValueError(f"{type(net).__name__} was not made by build_network: save its state_dict() with safetensors or torch")
    genome = genome_of(net)
    structure = built_with.network.model_copy(update={"n_genes": None if genome is None else genome.n_genes})
    return as_model({**built_with.model_dump(), "network": structure.model_dump()}, Architecture)


def describe_unchanged(net: nn.Module) -> Architecture:
    """``architecture_of(net)``. Raises ValueError where ``net`` was changed, so that its file would make another network."""
    architecture = architecture_of(net)
    check_values(net)
    check_parametrizations(net)
    genome, as_built, settings = genome_of(net), cast(SpikingNetwork, net).as_built, settings_of(net)
    changed = sorted(name for name in settings.keys() | as_built.keys() if settings.get(name) != as_built.get(name))
    if genome is not None and list(genome.chain()) != cast(SpikingNetwork, net).conv_chain():
        changed.append("genome")
    if changed:
        raise ValueError(
            f"{changed[0]} is not as build_network makes it, so a file of this kind would not rebuild the network: "
            "save its state_dict() with safetensors or torch, and make the network again by the code that changed it"
        )
    return architecture


def largest_activation(network: NetworkConfig, meta: ImageShape, batch_size: int) -> int:
    """Values of the stem's output for a batch, steps included."""
    return batch_size * network.T * encoded_channels(network.name, network.width, network.tilt)[0] * meta.image_size**2


def plain_parameters(network: NetworkStructure, meta: ImageShape) -> int:
    """Parameters of the configured network with plain weights, counted on the network itself, without memory for them."""
    with torch.device("meta"):
        return count_parameters(build(describe(network, meta).plain(), 0))


def find_width(network: NetworkStructure, images: ImageShape, target: int, tolerance: float = 0.02) -> float:
    """The width, of four decimals, at which the plain ``network`` comes closest to ``target`` parameters, as it is built.

    InputError where every width deviates by more than ``tolerance``, a fraction of ``target``.
    """
    name = network.name
    if is_own(name) and "width" not in inspect.signature(registered(name).build).parameters:
        raise InputError(f"{name} takes no width, so it has no narrowed network", "let its class take width")

    def count(step: int) -> int:
        return plain_parameters(network.model_copy(update={"width": step / WIDTH_STEPS}), images)

    below = bisect_right(range(1, 4 * WIDTH_STEPS), target, key=count)  # up to the widest that a configuration allows
    best = min((max(1, below), max(1, below) + 1), key=lambda step: abs(count(step) - target))
    reached = count(best)
    if abs(reached - target) > tolerance * target:
        raise InputError(
            f"{name}: no plain network within {tolerance:.0%} of {target:,} parameters, the closest has {reached:,}",
            "raise width or n_genes",
        )
    return best / WIDTH_STEPS


def read_network(path: Path, saved: object) -> SpikingNetwork:
    """The ``empty_network`` of ``saved``, the JSON of an ``Architecture`` in the file ``path``, else InputError."""
    if isinstance(saved, dict) and isinstance(network := saved.get("network"), dict):
        saved = saved | {"network": {"neuron": "lif", "levels": None, "tilt": 1.0} | network}  # files of version 0.1 lack them
    with as_input_error(f"{path}: does not describe a network of build_network"):
        architecture = as_model(saved, Architecture)
        name = architecture.network.name
        if is_own(name) and name not in OWN:
            raise InputError(
                f"{path}: is of your own network {name}, and no code is imported because a file names it",
                f"register it first: gee_core.register_network({name!r}, …)",
            )
        return empty_network(architecture)


def fill_network(path: Path, net: SpikingNetwork, tensors: dict[str, Tensor]) -> SpikingNetwork:
    """``net`` with the ``tensors`` of ``path`` as its state, in place."""
    with as_input_error(f"{path}: does not fit the network", RuntimeError):
        net.load_state_dict(tensors, assign=True)
    check_numbers(path, net)
    return to_channels_last(net) if net.channels_last else net


def check_numbers(path: Path, net: nn.Module) -> None:
    """Raise DivergedError where a number of ``net``, read from ``path``, is not finite, InputError for a negative variance."""
    state = net.state_dict()
    if lost := first_not_finite(state):
        raise DivergedError(f"{path}: {lost} holds values that are not finite")
    if wrong := next((name for name, value in state.items() if name.endswith("running_var") and (value < 0).any()), None):
        raise InputError(f"{path}: {wrong} holds negative variances", "train the network again, or take another file")


def check_finite(path: Path | str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """``tensors``, which are to be written to ``path``. Raises DivergedError where a number is not finite."""
    if lost := first_not_finite(tensors):
        raise DivergedError(f"{path}: not written, because {lost} holds values that are not finite")
    return tensors


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
