"""Configured networks: built from the section `network`, wired with a genotype, described so that a file can rebuild them."""

from typing import Protocol

import torch
from torch import nn

from gee_core.config import NetworkConfig, Positive, Section
from gee_core.genome.encoding import attach_genome, genome_of
from gee_core.genome.genotype import Genotype
from gee_core.model.network import SpikingNetwork, build_network, count_plain_parameters, to_channels_last
from gee_core.seeding import derive_seed, torch_generator


class ImageShape(Protocol):
    """What a network has to know about its images; ``data.prepared.Meta`` is one."""

    @property
    def num_classes(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def image_size(self) -> int: ...


class Architecture(Section):
    """What determines a network of ``build_network`` but for its weights: the JSON file beside a checkpoint."""

    network: NetworkConfig
    """Its values in the section `network`."""
    num_classes: Positive
    """K."""
    in_channels: Positive
    """Channels of the images."""
    image_size: Positive
    """Side of the images in pixels."""


def wired_network(network: NetworkConfig, meta: ImageShape, genotype: Genotype | None, seed: int) -> SpikingNetwork:
    """The configured network for images of the shape ``meta``, its wiring drawn with the genotype's σ's and ``seed``.

    ``genotype=None`` keeps the initialisation of ``build_network``: the analytic wiring, or He's for a plain network.

    Raises:
        ValueError: the genotype does not have one σ per encoding.
    """
    weights_seed = derive_seed(seed, "weights")
    if genotype is None or network.n_genes is None:
        net = _built(network, meta, weights_seed, network.n_genes)
    else:
        net = _built(network, meta, weights_seed, None)
        attach_genome(net, net.conv_chain(), network.n_genes).initialise(genotype, torch_generator(seed, "wiring"))
    return to_channels_last(net)


def empty_network(architecture: Architecture) -> SpikingNetwork:
    """The network without numbers: its tensors lie on the meta device, take no memory, and wait for those of a file."""
    with torch.device("meta"):
        net = _built(architecture.network, architecture, 0, None)
        if architecture.network.n_genes is not None:
            attach_genome(net, net.conv_chain(), architecture.network.n_genes)
    return net


def architecture_of(net: nn.Module) -> Architecture:
    """The architecture of a network that ``build_network`` made, encoded or decoded since or not.

    Raises:
        ValueError: it is another network, or a setting is outside the range of ``NetworkConfig``.
    """
    built_with = getattr(net, "built_with", None)
    if not isinstance(net, SpikingNetwork) or not built_with:
        raise ValueError(f"{type(net).__name__} was not made by build_network: save its state_dict() with safetensors or torch")
    genome = genome_of(net)
    sizes = dict(built_with)
    lif = dict(sizes.pop("lif"))
    own = {"name": sizes.pop("name"), "width": sizes.pop("width"), "surrogate": lif.pop("surrogate_name")}
    return Architecture(network=NetworkConfig(**own, **lif, n_genes=None if genome is None else genome.n_genes), **sizes)


def plain_parameters(network: NetworkConfig, meta: ImageShape) -> int:
    """Parameters of the configured network with ordinary weights, counted on the network itself."""
    return count_plain_parameters(network.name, meta.num_classes, meta.in_channels, meta.image_size, network.width)


def _built(network: NetworkConfig, shape: ImageShape, seed: int, n_genes: int | None) -> SpikingNetwork:
    sizes = (shape.num_classes, shape.in_channels, shape.image_size)
    return build_network(network.name, *sizes, n_genes, network.width, seed, **network.lif())
