"""The price of a candidate's network: counted before it is trained, its energy measured after."""

import math
from dataclasses import asdict, replace

import torch

from gee_core.config import NetworkConfig, SearchConfig
from gee_core.config.known_networks import genes_and_weights
from gee_core.evaluation.energy import measure_energy
from gee_core.evolution.candidate import Failure, Price, Score
from gee_core.gene_file import stored_bytes
from gee_core.model.network import SpikingNetwork, count_parameters
from gee_core.model.wired import ImageShape, plain_parameters, wired_network
from gee_core.training.loop import Images
from gee_core.training.recipe import Recipe


def count_price(net: SpikingNetwork, meta: ImageShape, e_mac: float) -> Price:
    """The price of ``net`` before it is trained. Its energy is that of the layers that multiply, mostly the stem."""
    image = torch.rand(1, meta.in_channels, meta.image_size, meta.image_size, generator=torch.Generator().manual_seed(0))
    if meta.events is not None:
        image = image.round().expand(net.T, *image.shape)
    layers = measure_energy(net, image.to(next(net.parameters()).device)).layers
    energy = sum(1000 * layer.energy_mj(e_mac, 0.0) for layer in layers if not layer.binary)
    return Price(count_parameters(net), stored_bytes(net), net.T, energy)


def configured_price(network: NetworkConfig, meta: ImageShape, e_mac: float) -> Price:
    """``count_price`` of the configured network."""
    return count_price(wired_network(network, meta, None, 0), meta, e_mac)


def most_genes(network: NetworkConfig, meta: ImageShape, parameters: int) -> int:
    """The largest g with which the configured network has no more than so many ``parameters``, or 0."""
    of_one, of_weights = genes_and_weights(network.name, network.width, 1, network.tilt)
    linear = of_one - 1  # g genes are g² + linear·g numbers
    left = parameters - (plain_parameters(network, meta) - of_weights)
    return (math.isqrt(linear**2 + 4 * left) - linear) // 2 if left > 0 else 0


def measured_energy(net: SpikingNetwork, holdout: Images, recipe: Recipe, pj: tuple[float, float]) -> float:
    """Energy per image in µJ (Eq. 17) of a trained candidate, on 256 hold-out images. ``pj`` are E_MAC and E_AC."""
    images, _ = next(holdout.batches(256))
    return 1000 * measure_energy(net, recipe.normalise(images), recipe.compute.dtype).energy_mj(*pj)


def apply_budget(score: Score, cfg: SearchConfig, price: Price) -> Score:
    """``score`` with its ``price``, and its failure where that is outside of the budget."""
    values = asdict(price)
    if cfg.budget is None or not (over := cfg.budget.exceeded(values)):
        return replace(score, price=price)
    named = ", ".join(f"{name} = {values[name]:,.6g} of {getattr(cfg.budget, name):,}" for name in over)
    return replace(score, price=price, excess=sum(over.values()), status=f"outside: {named}", failure=Failure.BUDGET)
