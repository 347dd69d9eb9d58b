"""The models inside the sections: genes of shape, residual blocks, and what they mean for one another."""

import pytest
from pydantic import ValidationError

from gee_core.config import NetworkStructure, Params, Shape
from gee_core.config.genes import GENES, GROUPS, searched_genes, with_genes
from tests.gee_core.test_config import values as all_values


def params(network=(), evolve=()) -> Params:
    changed = all_values()
    changed["network"] |= dict(network)
    changed["evolve"] |= dict(evolve)
    return Params(**changed)


def test_a_shape_is_neutral_where_no_gene_is_named_and_every_gene_is_documented():
    assert Shape().is_neutral()
    neutral = Shape().model_dump()
    for gene, field in Shape.model_fields.items():
        assert field.description
        assert not Shape(**{gene: neutral[gene] + 0.5}).is_neutral()
        with pytest.raises(ValidationError, match=gene):
            Shape(**{gene: 21})


@pytest.mark.parametrize(
    ("name", "block", "built"), [("vgg16", None, None), ("resnet18", None, "pre"), ("resnet18", "post", "post")]
)
def test_null_is_the_default_block(name, block, built):
    assert params({"name": name, "block": block}).network.block == built


def test_null_is_the_neutral_shape_and_a_checkpoint_does_not_hold_it():
    network, shaped = params().network, params({"init": {"omega_X": 1}}).network
    assert network.shape == Shape()
    assert shaped.shape == Shape(omega_X=1)
    assert type(network.structure()) is NetworkStructure
    assert network.structure() == shaped.structure()
    assert network.structure().model_dump() == {k: v for k, v in network.model_dump().items() if k != "init"}


def test_groups_stand_for_their_genes_and_wiring_for_one_sigma_per_matrix():
    assert searched_genes(["wiring"], 3, "lif") == ("sigma_O", "sigma_0", "sigma_1", "sigma_2")
    assert searched_genes(["T", "neurons"], 0, "lif") == ("T", "v_threshold", "tau", "surrogate_alpha")
    assert searched_genes(["T", "neurons"], 0, "ilif") == ("T", "v_threshold", "tau", "levels")
    every = {*searched_genes(GROUPS, 2, "lif"), *searched_genes(GROUPS, 2, "ilif")}
    assert sorted([*every, "sigma_X"]) == sorted([*GENES, "sigma_0", "sigma_1"])
    settings = params().network.model_dump() | params().evolve.proxy.model_dump()
    assert all(gene.group in ("wiring", "shape") or name in settings for name, gene in GENES.items())


def test_genes_replace_the_settings_of_the_section_that_has_them():
    found = params().with_genes({"v_threshold": 0.25, "T": 3, "lr": 0.02, "sigma_O": 9.0, "beta": 1.0})
    assert (found.network.v_threshold, found.network.T) == (0.25, 3)
    assert found.evolve.proxy.lr == found.train.lr == 0.02
    assert found.with_genes({"v_threshold": 0.5, "T": params().network.T}).network == params().network
    assert with_genes(found.train, {"v_threshold": 0.5}) is found.train


OWN_BASE = {"name": "networks.my:ResNet", "block": None, "n_genes": 4, "init": None}


def test_genes_of_an_own_network_are_counted_once_it_is_registered(request):
    unknown = params(OWN_BASE, {"genes": ["wiring"]})
    with pytest.raises(ValueError, match=r"^networks.my:ResNet is not registered: gee_core.register_network"):
        unknown.searched_genes()
    assert params(OWN_BASE, {"genes": ["sigma_O", "tau"]}).searched_genes() == ("sigma_O", "tau")
    request.getfixturevalue("own")
    assert unknown.searched_genes() == ("sigma_O", *(f"sigma_{layer}" for layer in range(5)))
