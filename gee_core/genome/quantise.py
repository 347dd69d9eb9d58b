"""Numbers of few bits: integers with one scale per gene, or per output channel of a weight.

    x ≈ codes · scale,    codes = round(x / scale) in -(2^(b-1) - 1) … 2^(b-1) - 1

The encoding is symmetric, so that 0 stays 0. The scale is the smallest that clips nothing.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

BITS = {"int8": 8, "int4": 4}
"""Bits of a number, by the name of the format."""


def quantise(x: Tensor, bits: int, dim: int) -> tuple[Tensor, Tensor]:
    """(codes int8 of the shape of ``x``, scales float32 (x.shape[dim],)), one scale per slice of ``x`` along ``dim``."""
    largest = 2 ** (bits - 1) - 1
    scale = x.detach().float().abs().movedim(dim, 0).flatten(1).amax(1) / largest
    codes = (x.detach().float() / along(scale.clamp_min(torch.finfo(torch.float32).tiny), x, dim)).round()
    return codes.clamp(-largest, largest).to(torch.int8), scale


def dequantise(codes: Tensor, scale: Tensor, dim: int) -> Tensor:
    """The numbers, float32, that ``quantise`` gave ``codes`` and ``scale`` for."""
    return codes.float() * along(scale, codes, dim)


def quantised_call(net: nn.Module, bits: int, x: Tensor) -> Tensor:
    """The output of ``net`` on ``x`` with every matrix rounded to ``bits``, which keeps its numbers.

    Gradients pass straight through the rounding (Bengio et al. 2013).
    """
    rounded = {}
    for name, p in net.named_parameters():
        if (dim := scaled_dim(name, p)) is not None:
            rounded[name] = dequantise(*quantise(p, bits, dim), dim) + (p - p.detach())
    return functional_call(net, rounded, (x,))


def scaled_dim(name: str, x: Tensor) -> int | None:
    """The dimension along which a tensor of a state dict has one scale per slice: a gene, or an output, or None for vectors."""
    if name.endswith(("parametrizations.weight.original", "genome.O", "genome.X_0")):
        return -1
    return 0 if name.endswith("weight") and x.ndim > 1 else None


def along(scale: Tensor, x: Tensor, dim: int) -> Tensor:
    """``scale`` as a tensor that multiplies ``x`` slice by slice along ``dim``."""
    shape = [1] * x.ndim
    shape[dim] = -1
    return scale.reshape(shape)
