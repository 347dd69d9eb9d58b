"""What ``encode`` and its like are given: seeds, numbers and networks of other types."""

import numpy as np
import pytest
import torch

from gee_core.errors import InputError
from gee_core.evaluation.energy import measure_energy
from gee_core.genome.compress import compress
from gee_core.genome.encoding import conv_chain, decode, encode
from tests.gee_core.genome.branches import Branches, G, branches, images


@pytest.mark.parametrize("seed", [None, 1.5, "0", True, 2**64])
def test_a_seed_that_no_generator_takes_is_refused_by_name(seed):
    net = branches(encoded=False)
    with pytest.raises(InputError, match=rf"seed = {seed!r}: must be an int from -2\*\*63 to 2\*\*64 - 1"):
        encode(net, G, convs=net.chain(), seed=seed)


def test_numpys_integers_are_taken_for_what_they_are():
    net, x = branches(encoded=False), images()
    encoded = encode(net, np.int64(G), convs=net.chain(), seed=np.int32(-3))
    assert torch.equal(encoded(x), encode(net, G, convs=net.chain(), seed=-3)(x))
    assert type(encoded.genome.n_genes) is int


@pytest.mark.parametrize(
    "work",
    [
        lambda net: encode(net, G, example=images()),
        lambda net: compress(net, G, example=images()),
        lambda net: conv_chain(net, images()),
        lambda net: measure_energy(net, images()),
        decode,
    ],
    ids=["encode", "compress", "conv_chain", "measure_energy", "decode"],
)
def test_what_is_no_network_is_refused_by_its_type(work):
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got the class Branches: make a network of it"):
        work(Branches)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got OrderedDict"):
        work(branches().state_dict())


def test_a_network_of_two_inputs_is_told_of_convs():
    class Two(Branches):
        def forward(self, x, y):
            return super().forward(x + y)

    with pytest.raises(InputError, match=r"missing 1 required .* if it takes several, pass encode its convs"):
        encode(Two(), G, example=images())
    two = Two().double()
    assert encode(two, G, convs=two.chain())(images(), images()).isfinite().all()
