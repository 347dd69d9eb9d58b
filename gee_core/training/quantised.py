"""Passes through a network whose genes and weights are rounded, for training that prepares it for a format of few bits."""

from torch import Tensor, nn
from torch.func import functional_call

from gee_core.genome.quantise import scaled_dim, straight_through


def quantised_call(net: nn.Module, bits: int, x: Tensor) -> Tensor:
    """The output of ``net`` on ``x`` with every matrix rounded to ``bits`` as in a file of genes; ``net`` keeps its numbers.

    Gradients reach them through the rounding as if it were not there. Batch norms keep their statistics in ``net``.
    """
    matrices = {name: (p, dim) for name, p in net.named_parameters() if (dim := scaled_dim(name, p)) is not None}
    rounded = {name: straight_through(p, bits, dim) for name, (p, dim) in matrices.items()}
    return functional_call(net, rounded, (x,))
