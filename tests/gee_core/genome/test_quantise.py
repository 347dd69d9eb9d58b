"""Integers with a scale per slice."""

import pytest
import torch

from gee_core.genome.quantise import BITS, dequantise, quantise, scaled_dim, straight_through
from gee_core.model.network import build_network


@pytest.mark.parametrize("bits", BITS.values())
@pytest.mark.parametrize("dim", [0, -1])
def test_rounding_is_off_by_at_most_half_a_step_of_its_own_slice(bits, dim):
    x = torch.randn(9, 7, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1, 5, 0, 1e3])
    codes, scale = quantise(x, bits, dim)
    assert codes.dtype is torch.int8 and codes.shape == x.shape and scale.shape == (x.shape[dim],)
    assert codes.abs().max() == 2 ** (bits - 1) - 1
    off = (dequantise(codes, scale, dim) - x).abs().movedim(dim, 0).flatten(1).amax(1)
    assert (off <= scale * 0.5001).all()


def test_zero_stays_zero():
    x = torch.zeros(3, 4)
    assert torch.equal(dequantise(*quantise(x, 8, 0), 0), x)


def test_every_matrix_of_a_network_has_scales_and_no_vector_does():
    state = build_network("cifarnet", 10, 3, 16, n_genes=4, width=0.0625).state_dict()
    dims = {name: scaled_dim(name, x) for name, x in state.items()}
    assert {dims[name] for name in dims if name.endswith("original") or name.startswith("genome.")} == {-1}
    assert dims["stem.conv.weight"] == dims["head.0.weight"] == 0
    assert all((dims[name] is None) == (x.ndim < 2) for name, x in state.items())


def test_gradients_pass_the_rounding_as_if_it_were_not_there():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rounded = straight_through(x, 4, -1)
    assert torch.equal(rounded, dequantise(*quantise(x, 4, -1), -1))
    (gradient,) = torch.autograd.grad((rounded * torch.arange(15.0).view(5, 3)).sum(), x)
    assert torch.equal(gradient, torch.arange(15.0).view(5, 3))
