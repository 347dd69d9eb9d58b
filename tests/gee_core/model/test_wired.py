"""Configured networks: wired with the genotype's σ's, each gene drawn once, and described so that they can be rebuilt."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gee_core.config import NetworkConfig, Shape
from gee_core.errors import InputError
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.genome.wiring import truncated_normal_
from gee_core.model.network import build_network, count_parameters
from gee_core.model.wired import architecture_of, empty_network, find_width, plain_parameters, wired_network
from gee_core.seeding import derive_seed, torch_generator
from tests.gee_core.evolution.proxy_task import NETWORK as PROXY
from tests.gee_core.lively import same_state

SHAPE = SimpleNamespace(num_classes=5, in_channels=1, image_size=8)
NETWORK = NetworkConfig(
    **{"name": "resnet18", "block": "pre", "pool": "max", "width": 1 / 16, "n_genes": 6, "T": 2, "tau": 3.0, "init": None},
    **{"decay_input": False, "v_threshold": 0.7, "v_reset": None, "detach_reset": True, "surrogate": "atan"},
    surrogate_alpha=1.5,
    neuron="lif",
    levels=None,
    tilt=1.0,
)
OF_NEURONS = ("neuron", "levels", "T", "tau", "decay_input", "v_threshold", "v_reset", "detach_reset", "surrogate_alpha")
POST = NETWORK.model_copy(update={"block": "post"})
PLAIN = NETWORK.model_copy(update={"n_genes": None})
LAYERS = len(build_network("resnet18", 5).conv_chain())
GENOTYPE = Genotype(2.0, tuple(0.1 * 1.3**layer for layer in range(LAYERS)))


def test_the_draws_are_those_of_the_generator_for_the_wiring():
    genome = genome_of(wired_network(NETWORK, SHAPE, GENOTYPE, 3))
    generator = torch_generator(3, "wiring")
    for gene, sigma in zip([genome.O, *genome.encodings()], [GENOTYPE.sigma_O, *GENOTYPE.sigma_X], strict=True):
        assert torch.equal(gene, truncated_normal_(torch.empty(gene.shape), sigma, generator))


def test_without_a_genotype_the_wiring_is_that_of_build_network():
    sizes = (SHAPE.num_classes, SHAPE.in_channels, SHAPE.image_size)
    for network in (NETWORK, PLAIN):
        for seed in (3, 4):
            weights_seed = derive_seed(seed, "weights")
            neurons = {"surrogate_name": NETWORK.surrogate} | {name: getattr(NETWORK, name) for name in OF_NEURONS}
            built = build_network("resnet18", *sizes, network.n_genes, NETWORK.width, weights_seed, **neurons)
            assert same_state(built, wired_network(network, SHAPE, None, seed))
    assert plain_parameters(NETWORK, SHAPE) == count_parameters(built)


@pytest.mark.parametrize("network", [NETWORK, POST, PLAIN], ids=["genetic", "post", "plain"])
def test_a_network_knows_its_architecture_and_the_empty_one_has_its_shapes(network):
    built = wired_network(network, SHAPE, None, 3)
    architecture = architecture_of(built)
    assert architecture.network == network.structure()
    assert (architecture.num_classes, architecture.in_channels, architecture.image_size) == (5, 1, 8)
    empty = empty_network(architecture)
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in built.state_dict().items()}
    assert all(tensor.is_meta for tensor in empty.state_dict().values())


ORTHOGONAL = Shape(omega_O=1.0, omega_X=1.0, beta=0.5)


def wired(network, shape, genotype=None):
    return wired_network(network.model_copy(update={"init": shape}), SHAPE, genotype, 3)


def is_flat(matrix):
    S = torch.linalg.svdvals(matrix.detach().double())
    return bool(S.max() < 1.001 * S.min())


def test_the_analytic_wiring_has_the_shape_of_init_and_a_genotype_its_own():
    genome = genome_of(wired(NETWORK, ORTHOGONAL))
    assert is_flat(genome.O) and is_flat(genome.X_0[4])
    genotype = replace(GENOTYPE, shape=Shape(omega_O=1.0))
    net = wired(NETWORK, ORTHOGONAL, genotype)
    assert is_flat(genome_of(net).O)
    assert not is_flat(genome_of(net).X_0[4])
    assert same_state(net, wired(NETWORK, None, genotype))


def test_a_plain_network_gets_the_shape_too_but_for_its_stem_and_shortcuts():
    neutral, net = wired(PLAIN, None), wired(PLAIN, ORTHOGONAL)
    chain = net.conv_chain()
    assert all(is_flat(conv.weight[:, :, 1, 1]) for conv in chain[1:])
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, neutral.get_parameter(name))}
    names = {module: name for name, module in net.named_modules()}
    assert changed == {f"{names[conv]}.weight" for conv in chain[1:]}
    assert same_state(net, wired(PLAIN, ORTHOGONAL))
    for network in (NETWORK, PLAIN):
        assert same_state(wired(network, None), wired(network, Shape()))  # neutral


VGG = PROXY.model_copy(update={"name": "vgg16", "block": None})


def test_no_other_width_comes_closer_and_it_has_few_decimals():
    target = 40_000
    found = find_width(VGG, SHAPE, target, tolerance=0.05)
    assert found == round(found, 4)
    off = [
        abs(count_parameters(build_network("vgg16", 5, 1, 8, width=w)) - target) for w in (found, *np.arange(0.03, 0.16, 0.002))
    ]
    assert off[0] == min(off)


@pytest.mark.parametrize("target", [10, 10**12])
def test_a_count_out_of_reach_is_refused_with_the_closest_one(target):
    with pytest.raises(InputError, match=r"vgg16: no plain network within 2% of .* the closest has .*: raise width"):
        find_width(VGG, SHAPE, target)
