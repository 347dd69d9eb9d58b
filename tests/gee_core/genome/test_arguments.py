"""What ``encode`` and its like are given: seeds, numbers and networks of other types."""

import numpy as np
import pytest
import torch

from gee_core.errors import InputError
from gee_core.genome.encoding import encode
from tests.gee_core.genome.branches import G, branches, images


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
