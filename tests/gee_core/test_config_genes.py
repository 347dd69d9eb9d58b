"""The models inside the sections: genes of shape, residual blocks, and what they mean for one another."""

import pytest
from pydantic import ValidationError

from gee_core.config import NetworkStructure, Params, Shape
from gee_core.config.known_networks import default_block
from gee_core.config.shape import SEARCH_RANGES, searched_genes
from gee_core.zoo import NETWORKS
from tests.gee_core.test_config import values

RESNETS = [name for name in NETWORKS if default_block(name)]
OTHERS = [name for name in NETWORKS if name not in RESNETS]


def params(network=(), evolve=()) -> Params:
    changed = values()
    changed["network"] |= dict(network)
    changed["evolve"] |= dict(evolve)
    return Params(**changed)


def test_a_shape_is_neutral_where_no_gene_is_named_and_every_gene_is_documented():
    assert Shape().is_neutral()
    neutral = Shape().model_dump()
    assert {gene for gene, value in neutral.items() if value == 1.0} == {"gamma_0", "gamma_end"}
    for gene, field in Shape.model_fields.items():
        assert field.description
        assert not Shape(**{gene: neutral[gene] + 0.5}).is_neutral()
        with pytest.raises(ValidationError, match=gene):
            Shape(**{gene: 21})


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
@pytest.mark.parametrize("block", [None, "pre", "post"])
def test_null_is_the_default_block_and_networks_without_blocks_take_nothing_else(name, block):
    if name in OTHERS and block is not None:
        with pytest.raises(ValidationError, match=f"{name} has no residual blocks: set it to null"):
            params({"name": name, "block": block})
    else:
        assert params({"name": name, "block": block}).network.block == (None if name in OTHERS else block or "pre")


@pytest.mark.parametrize(("gene", "value"), [("gamma_end", 0.5), ("slope", 1.0)])
def test_genes_of_branches_need_a_network_with_blocks(gene, value):
    assert getattr(params({"name": "resnet18", "init": {gene: value}}).network.shape, gene) == value
    with pytest.raises(ValidationError, match=rf"{gene} = {value} acts on residual blocks, and vgg16 has none"):
        params({"name": "vgg16", "init": {gene: value}})
    neutral = Shape().model_dump()[gene]
    assert params({"name": "vgg16", "init": {gene: neutral}}).network.shape.is_neutral()


def test_null_is_the_neutral_shape_and_a_checkpoint_does_not_say_where_its_wiring_started():
    network, shaped = params().network, params({"init": {"omega_X": 1}}).network
    assert network.shape == Shape()
    assert shaped.shape == Shape(omega_X=1)
    assert type(network.structure()) is NetworkStructure
    assert network.structure() == shaped.structure()
    assert network.structure().model_dump() == {k: v for k, v in network.model_dump().items() if k != "init"}
    assert network.lif() == network.structure().lif() == shaped.lif()


@pytest.mark.parametrize(("population", "top", "fits"), [(4, 4, True), (4, 5, False), (None, 10, True), (None, 11, False)])
def test_no_more_candidates_are_scored_again_than_a_generation_has(population, top, fits):
    evolve = {"genotype": "per_layer", "population_size": population, "rescore": {"top": top, "draws": 2}}
    network = {"name": "cifarnet"}  # σ_O and eight σ_l: CMA-ES has 4 + ⌊3 ln 9⌋ = 10 candidates
    if fits:
        assert params(network, evolve).evolve.rescore.top == top
    else:
        with pytest.raises(ValidationError, match=rf"evolve\.rescore\.top = {top}: .* set it to {population or 10} or less"):
            params(network, evolve)


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_the_genes_of_every_form_are_sigmas_or_genes_of_shape_with_a_range_to_search(name):
    for form in ("per_layer", "shared", "shape"):
        genes = params({"name": name}, {"genotype": form}).searched_genes()
        shape = [gene for gene in genes if not gene.startswith("sigma")]
        assert set(shape) <= set(SEARCH_RANGES)
        assert bool(shape) == (form == "shape")
        assert len(set(genes)) == len(genes)
        assert ("gamma_end" in genes) == (form == "shape" and name in RESNETS)
    assert searched_genes("per_layer", 3, False) == ("sigma_O", "sigma_0", "sigma_1", "sigma_2")


OWN_BASE = {"name": "networks.my:ResNet", "block": None, "n_genes": 4, "init": None}


def test_genes_of_an_own_network_are_counted_once_it_is_registered(request):
    evolve = {"genotype": "per_layer", "population_size": None, "rescore": {"top": 12, "draws": 2}}
    unknown = params(OWN_BASE, evolve)  # stage check registers it, and checks the rest
    for ask in (unknown.searched_genes, unknown.check_top):
        with pytest.raises(ValueError, match=r"^networks.my:ResNet is not registered: gee_core.register_network"):
            ask()
    assert params(OWN_BASE, {"genotype": "shared"}).searched_genes() == ("sigma_O", "sigma_X")
    assert params(OWN_BASE, {"genotype": "shape"}).searched_genes()[-1] == "gamma_0"
    request.getfixturevalue("own")
    assert unknown.searched_genes() == ("sigma_O", *(f"sigma_{layer}" for layer in range(5)))
    with pytest.raises(ValueError, match=r"rescore.top = 12: .* set it to 9 or less"):
        unknown.check_top()


def test_an_own_network_takes_no_block_and_names_no_branches():
    with pytest.raises(ValidationError, match=r"networks.my:ResNet is your own network, and block is for .*: set it to null"):
        params(OWN_BASE | {"block": "pre"})
    with pytest.raises(
        ValidationError, match=r"slope = 1\.0 acts on .*, and networks.my:ResNet does not name any: leave it out"
    ):
        params(OWN_BASE | {"init": {"slope": 1.0}})
    assert params(OWN_BASE | {"init": {"gamma_0": 2.0}}).network.shape.gamma_0 == 2.0
