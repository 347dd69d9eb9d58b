"""W[p] = X_out[p] · O · X_in[p]ᵀ against loops, against a convolution summed by hand, and against its own algebra."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from gee_core.genome.weight import decode_conv, decode_macs

I, J, G = 3, 4, 5
KERNEL = (2, 3)
K = KERNEL[0] * KERNEL[1]


def genes(seed=0):
    """X_in (K, I, G), O (G, G), X_out (K, J, G) in float64."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(K, I, G), (G, G), (K, J, G)]]


def test_decode_conv_equals_the_triple_product_written_as_loops():
    X_in, O_GG, X_out = genes()
    W = torch.zeros(J, I, *KERNEL, dtype=torch.float64)
    for j, i, row, column in itertools.product(range(J), range(I), range(KERNEL[0]), range(KERNEL[1])):
        p = row * KERNEL[1] + column
        for a, b in itertools.product(range(G), range(G)):
            W[j, i, row, column] += X_out[p, j, a] * O_GG[a, b] * X_in[p, i, b]
    torch.testing.assert_close(decode_conv(X_in, O_GG, X_out, KERNEL), W)


def test_each_encoding_slice_acts_at_its_own_kernel_position_of_the_convolution():
    X_in, O_GG, X_out = genes()
    x = torch.randn(2, I, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    by_hand = torch.zeros(2, J, 5, 5, dtype=torch.float64)
    for row, column in itertools.product(range(KERNEL[0]), range(KERNEL[1])):
        p = row * KERNEL[1] + column  # row by row, as the kernel lies in memory
        shifted = x[:, :, row : row + 5, column : column + 5]
        genes_seen = torch.einsum("bihw,ig->bghw", shifted, X_in[p])
        by_hand += torch.einsum("jg,gk,bkhw->bjhw", X_out[p], O_GG, genes_seen)
    torch.testing.assert_close(F.conv2d(x, decode_conv(X_in, O_GG, X_out, KERNEL)), by_hand)


def test_gradients_equal_finite_differences():
    inputs = [tensor.requires_grad_() for tensor in genes()]
    assert torch.autograd.gradcheck(lambda *x: decode_conv(*x, KERNEL), inputs)


@pytest.mark.parametrize(("k2", "i", "j", "g"), [(9, 3, 4, 5), (6, 16, 8, 24), (1, 1, 1, 1)])
def test_decode_macs_are_half_the_flops_that_torch_counts(k2, i, j, g):
    with FlopCounterMode(display=False) as counter:
        decode_conv(torch.zeros(k2, i, g), torch.zeros(g, g), torch.zeros(k2, j, g), (1, k2))
    assert decode_macs(k2, i, j, g) == counter.get_total_flops() / 2
