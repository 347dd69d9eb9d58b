"""The genes of an encoded network: how they are drawn, counted, saved, copied and trained."""

import copy

import pytest
import torch

from gee_core.genome.encoding import decode
from gee_core.genome.genotype import Genotype
from gee_core.genome.wiring import truncated_normal_
from tests.gee_core.genome.branches import G, branches, images


def test_initialise_draws_the_matrix_then_the_encodings_in_order_from_the_given_generator_alone():
    net = branches(torch.float32)
    sigmas = (0.5, 1.0, 1.5, 2.0)
    before = torch.get_rng_state()
    net.genome.initialise(Genotype(0.25, sigmas), torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(3)
    for gene, sigma in zip([net.genome.O, *net.genome.encodings()], [0.25, *sigmas], strict=True):
        assert torch.equal(gene, truncated_normal_(torch.empty(gene.shape), sigma, generator))


def test_the_state_dict_has_the_documented_keys_and_shapes():
    state = branches().state_dict()
    genes = {name: tuple(value.shape) for name, value in state.items() if "genome" in name or "parametriz" in name}
    assert genes == {
        "genome.O": (G, G),
        "genome.X_0": (9, 4, G),
        "trunk.a.parametrizations.weight.original": (9, 4, G),
        "trunk.b.parametrizations.weight.original": (9, 6, G),
        "last.parametrizations.weight.original": (9, 7, G),
    }
    assert not {"trunk.a.weight", "trunk.b.weight", "last.weight"} & set(state)
    assert {"stem.weight", "skip.weight", "grouped.weight", "last.bias"} <= set(state)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_saved_to_disk_makes_a_fresh_network_the_same(assign, tmp_path):
    net, x = branches(seed=0), images()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    fresh = branches(seed=1)
    assert not torch.allclose(fresh(x), net(x))
    fresh.load_state_dict(torch.load(tmp_path / "net.pt"), assign=assign)
    assert torch.equal(fresh(x), net(x))
    assert torch.equal(decode(fresh)(x), net(x))


def test_a_deep_copy_has_its_own_genes():
    net, x = branches(), images()
    twin = copy.deepcopy(net)
    out = net(x)
    assert torch.equal(twin(x), out)
    with torch.no_grad():
        for gene in [twin.genome.O, *twin.genome.encodings()]:
            gene.mul_(2)
    assert torch.equal(net(x), out)
    assert not torch.allclose(twin(x), out)
    assert twin.genome.encoded_convs() == tuple(twin.chain()[1:])
