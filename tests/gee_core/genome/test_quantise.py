"""Integers with a scale per slice, and training with them."""

import copy

import pytest
import torch

from gee_core.config.train import Quantise
from gee_core.genome.quantise import BITS, dequantise, quantise, quantised_call, scaled_dim
from gee_core.model.network import build_network
from tests.gee_core.recipes import recipe


@pytest.mark.parametrize("bits", BITS.values())
@pytest.mark.parametrize("dim", [0, -1])
def test_rounding_is_off_by_at_most_half_a_step_of_its_own_slice(bits, dim):
    x = torch.randn(9, 7, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1, 5, 0, 1e3])
    codes, scale = quantise(x, bits, dim)
    assert codes.dtype is torch.int8 and codes.shape == x.shape and scale.shape == (x.shape[dim],)
    assert codes.abs().max() == 2 ** (bits - 1) - 1
    off = (dequantise(codes, scale, dim) - x).abs().movedim(dim, 0).flatten(1).amax(1)
    assert (off <= scale * 0.5001).all()


def test_every_matrix_of_a_network_has_scales_and_no_vector_does():
    state = build_network("cifarnet", 10, 3, 16, n_genes=4, width=0.0625).state_dict()
    dims = {name: scaled_dim(name, x) for name, x in state.items()}
    assert {dims[name] for name in dims if name.endswith("original") or name.startswith("genome.")} == {-1}
    assert dims["stem.conv.weight"] == dims["head.0.weight"] == 0
    assert all((dims[name] is None) == (x.ndim < 2) for name, x in state.items())


def network(n_genes=4, name="vgg16", seed=0):
    return build_network(name, 10, 1, 8, n_genes, 1 / 16, seed, T=2)


def rounded(net, bits):
    """A copy whose matrices are rounded, worked out parameter by parameter."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if (dim := scaled_dim(name, p)) is not None:
                p.copy_(dequantise(*quantise(p, bits, dim), dim))
    return other


@pytest.mark.parametrize(("name", "n_genes"), [("vgg16", 4), ("resnet19", None)])
def test_outputs_gradients_and_statistics_are_those_of_the_rounded_network(n_genes, name):
    net, x = network(n_genes, name), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other, before = rounded(net, 4), [p.detach().clone() for p in net.parameters()]
    outputs = quantised_call(net, 4, x), other(x)
    assert torch.equal(*outputs)
    for o_TBK in outputs:
        o_TBK.square().sum().backward()
    assert any(p.grad.abs().sum() > 0 for p in net.parameters())
    for (key, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4 * q.grad.abs().max().item(), msg=key)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    for a, b in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_only_the_last_epochs_are_rounded():
    how = recipe(epochs=5, quantise=Quantise(format="int4", epochs=2))
    assert [how.bits_of(epoch) for epoch in range(5)] == [None, None, None, 4, 4]
    assert {recipe(epochs=5).bits_of(epoch) for epoch in range(5)} == {None}
