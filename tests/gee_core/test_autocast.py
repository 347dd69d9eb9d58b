"""Inside `torch.autocast`, what is kept of a network has the numbers that it has outside."""

import torch

from gee_core.evaluation.energy import measure_energy
from gee_core.export.to_nir import to_nir
from gee_core.genome.compress import compress
from gee_core.genome.encoding import decode
from gee_core.model.network import build_network

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def in_bfloat16(function, *arguments, **settings):
    with torch.autocast("cpu", torch.bfloat16):
        return function(*arguments, **settings)


def test_decoded_weights_energies_and_exports_are_the_same():
    net = build_network("cifarnet", 5, 3, 8, 4, 1 / 32, T=2).eval()
    weights = decode(net).state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in in_bfloat16(decode, net).state_dict().items())
    assert in_bfloat16(measure_energy, net, X) == measure_energy(net, X)
    nodes = to_nir(net).nodes
    for name, node in in_bfloat16(to_nir, net).nodes.items():
        assert not hasattr(node, "weight") or (node.weight == nodes[name].weight).all()


def test_the_error_of_compressed_weights_is_that_of_their_float32():
    plain = decode(build_network("cifarnet", 5, 3, 8, 4, 1 / 32, T=2))
    _, errors = in_bfloat16(compress, plain, 4, convs=plain.conv_chain())
    assert max(errors) < 1e-5
