"""The paper's main formula: weights from genes.

Shapes: K kernel positions (k*k), I in-channels, J out-channels, G genes.
"""

import torch
from torch import Tensor


def decode_conv(X_in_KIG: Tensor, O_GG: Tensor, X_out_KJG: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """The convolution weight W (J, I, k_h, k_w) decoded from its genes: W[p] = X_out[p] · O · X_in[p]ᵀ, Eq. 1 and 3.

    Its memory layout is (J, k_h, k_w, I), channels-last.
    """
    W_KJI = torch.matmul(torch.matmul(X_out_KJG, O_GG), X_in_KIG.transpose(1, 2))
    return W_KJI.transpose(0, 1).contiguous().unflatten(1, kernel_size).permute(0, 3, 1, 2)


def decode_macs(k2: int, in_channels: int, out_channels: int, n_genes: int) -> int:
    """Multiply-accumulates of one ``decode_conv``: k²·(J·g² + J·g·I)."""
    return k2 * (out_channels * n_genes**2 + out_channels * n_genes * in_channels)
