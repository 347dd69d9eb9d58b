"""Configured networks: wired with the genotype's σ's, each gene drawn once, and described so that they can be rebuilt."""

import math
from types import SimpleNamespace

import pytest
import torch

import gee_core
from gee_core.config import NetworkConfig
from gee_core.genome import wiring
from gee_core.genome.encoding import decode, encode, genome_of
from gee_core.genome.genotype import TRUNCATED_VARIANCE, Genotype
from gee_core.genome.wiring import truncated_normal_
from gee_core.model.network import TableNetwork, build_network, count_parameters
from gee_core.model.wired import architecture_of, empty_network, plain_parameters, wired_network
from gee_core.seeding import derive_seed, torch_generator

SHAPE = SimpleNamespace(num_classes=5, in_channels=1, image_size=8)
NETWORK = NetworkConfig(
    name="resnet18",
    block="pre",
    pool="max",
    width=1 / 16,
    n_genes=6,
    T=2,
    tau=3.0,
    decay_input=False,
    v_threshold=0.7,
    v_reset=None,
    detach_reset=True,
    surrogate="atan",
    surrogate_alpha=1.5,
    init=None,
)
POST = NETWORK.model_copy(update={"block": "post"})
PLAIN = NETWORK.model_copy(update={"n_genes": None})
LAYERS = len(build_network("resnet18", 5).conv_chain())
GENOTYPE = Genotype(2.0, tuple(0.1 * 1.3**layer for layer in range(LAYERS)))


def test_a_wiring_is_drawn_with_the_genotypes_sigmas_and_its_seed():
    network = NETWORK.model_copy(update={"n_genes": 40})
    genome = genome_of(wired_network(network, SHAPE, GENOTYPE, 3))
    drawn = [genome.O, *genome.encodings()]
    for tensor, sigma in zip(drawn, [GENOTYPE.sigma_O, *GENOTYPE.sigma_X], strict=True):
        assert tensor.abs().max() <= 2 * sigma
        assert tensor.std().item() == pytest.approx(sigma * math.sqrt(TRUNCATED_VARIANCE), rel=0.1)
    again, other = (genome_of(wired_network(network, SHAPE, GENOTYPE, seed)) for seed in (3, 4))
    assert torch.equal(again.O, genome.O)
    assert not torch.equal(other.O, genome.O)


def test_the_draws_are_those_of_the_generator_for_the_wiring():
    genome = genome_of(wired_network(NETWORK, SHAPE, GENOTYPE, 3))
    generator = torch_generator(3, "wiring")
    for gene, sigma in zip([genome.O, *genome.encodings()], [GENOTYPE.sigma_O, *GENOTYPE.sigma_X], strict=True):
        assert torch.equal(gene, truncated_normal_(torch.empty(gene.shape), sigma, generator))


def test_without_a_genotype_the_wiring_is_that_of_build_network():
    sizes = (SHAPE.num_classes, SHAPE.in_channels, SHAPE.image_size)
    built = build_network("resnet18", *sizes, 6, NETWORK.width, derive_seed(3, "weights"), **NETWORK.lif())
    wired = wired_network(NETWORK, SHAPE, None, 3).state_dict()
    assert all(torch.equal(value, wired[name]) for name, value in built.state_dict().items())


@pytest.mark.parametrize("genotype", [None, GENOTYPE], ids=["analytic", "evolved"])
def test_every_gene_is_drawn_once(genotype, monkeypatch):
    drawn = []
    monkeypatch.setattr(wiring, "truncated_normal_", lambda *args: (drawn.append(1), truncated_normal_(*args))[1])
    wired_network(NETWORK, SHAPE, genotype, 3)
    assert len(drawn) == 1 + LAYERS


def test_a_genotype_of_another_network_is_refused():
    with pytest.raises(ValueError, match=rf"X_0 … X_{LAYERS - 1}, got 2"):
        wired_network(NETWORK, SHAPE, Genotype(1.0, (1.0, 1.0)), 3)


def test_a_plain_network_has_no_wiring_to_draw_and_follows_its_seed():
    first, again, other = (wired_network(PLAIN, SHAPE, None, seed) for seed in (3, 3, 4))
    assert genome_of(first) is None
    assert torch.equal(first.stem.conv.weight, again.stem.conv.weight)
    assert not torch.equal(first.stem.conv.weight, other.stem.conv.weight)
    assert plain_parameters(NETWORK, SHAPE) == count_parameters(first)


@pytest.mark.parametrize("network", [NETWORK, POST, PLAIN], ids=["genetic", "post", "plain"])
def test_a_network_knows_the_architecture_it_was_built_with(network):
    architecture = architecture_of(wired_network(network, SHAPE, None, 3))
    assert architecture.network == network.structure()
    assert (architecture.num_classes, architecture.in_channels, architecture.image_size) == (5, 1, 8)


def test_the_defaults_of_build_network_are_part_of_the_architecture():
    network = architecture_of(gee_core.build_network("vgg16", 7, width=1 / 16)).network
    assert (network.T, network.tau, network.v_threshold, network.surrogate) == (4, 2.0, 0.5, "piecewise_quadratic")


def test_the_architecture_follows_encoding_and_decoding():
    net = build_network("vgg16", 7, width=1 / 16)
    encoded = encode(net, 4, convs=net.conv_chain())
    genes = [architecture_of(each).network.n_genes for each in (net, encoded, decode(encoded))]
    assert genes == [None, 4, None]


@pytest.mark.parametrize("network", [NETWORK, POST, PLAIN], ids=["genetic", "post", "plain"])
def test_the_empty_network_has_the_shapes_of_the_built_one_and_no_numbers(network):
    built = wired_network(network, SHAPE, None, 3)
    empty = empty_network(architecture_of(built))
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in built.state_dict().items()}
    assert all(tensor.is_meta for tensor in empty.state_dict().values())


def test_a_network_of_another_make_has_no_architecture():
    own = TableNetwork(gee_core.NETWORKS["vgg16"], 10, 3, 32, 1 / 16, None, "max", {"T": 2})
    for net in (torch.nn.Linear(2, 2), own):
        with pytest.raises(ValueError, match="was not made by build_network"):
            architecture_of(net)
