"""The initial wiring: draws of X and O from truncated normals (Eq. 9), shaped by the genes of shape.

Every gene at its neutral value leaves the draws as they are, bit for bit.

Shapes: K kernel positions, C channels, G genes, J out-channels, I in-channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gee_core.config import Shape
from gee_core.genome.genotype import TRUNCATION, Genotype


def truncated_normal_(tensor: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Fill ``tensor`` with TN(0, σ²) on [-2σ, 2σ] (Eq. 9), in place. The standard deviation of the draws is 0.88·σ."""
    bound = TRUNCATION * sigma
    return torch.nn.init.trunc_normal_(tensor, 0.0, sigma, -bound, bound, generator=generator)


def draw_genes(
    genotype: Genotype, channels: Sequence[int], n_genes: int, kernel_size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """O (G, G) and [X_0 … X_L], each (K, C_l, G): drawn in this order, then shaped by ω_O, ω_X and β."""
    if len(genotype.sigma_X) != len(channels):
        wanted = f"X_0 … X_{len(channels) - 1}"
        raise ValueError(f"sigma_X needs one value per encoding {wanted}, got {len(genotype.sigma_X)}")

    def drawn(*size: int, sigma: float) -> Tensor:
        return truncated_normal_(torch.empty(size, device=generator.device), sigma, generator)

    K, shape = kernel_size[0] * kernel_size[1], genotype.shape
    O = drawn(n_genes, n_genes, sigma=genotype.sigma_O)
    X = [drawn(K, C, n_genes, sigma=sigma) for C, sigma in zip(channels, genotype.sigma_X, strict=True)]
    # W[p] has the square of the factors of β
    X = [centre_kernels(flatten_spectrum(x, shape.omega_X), kernel_size, shape.beta / 2, power=4) for x in X]
    return flatten_spectrum(O, shape.omega_O), X


def shape_weight(W_JIhw: Tensor, shape: Shape) -> Tensor:
    """The control of shaped genes: a plain convolution's weight with the same ω_X and β."""
    kernel_size = (W_JIhw.shape[2], W_JIhw.shape[3])
    W_KJI = W_JIhw.flatten(2).permute(2, 0, 1)
    W_KJI = centre_kernels(flatten_spectrum(W_KJI, shape.omega_X), kernel_size, shape.beta, power=2)
    return W_KJI.permute(1, 2, 0).unflatten(2, kernel_size)


def flatten_spectrum(matrices: Tensor, omega: float) -> Tensor:
    """(…, M, N) with the singular values s of every matrix as s^(1-ω), and the Frobenius norm kept."""
    if not omega:
        return matrices
    U, S, Vh = torch.linalg.svd(matrices.double(), full_matrices=False)
    flat = S.clamp_min(torch.finfo(S.dtype).tiny) ** (1 - omega)
    flat = flat * (S.norm(dim=-1, keepdim=True) / flat.norm(dim=-1, keepdim=True))
    return ((U * flat[..., None, :]) @ Vh).to(matrices.dtype)


def centre_kernels(tensor_K: Tensor, kernel_size: tuple[int, int], rate: float, power: int) -> Tensor:
    """(K, …) times c·exp(-rate·d²) by kernel position, d the distance from the kernel's centre.

    c makes 1 the mean of the factors' power ``power``: 2 keeps the expected norm of the scaled tensor, 4 of a product of two.
    """
    if not rate:
        return tensor_K
    rows, columns = (torch.arange(k, dtype=torch.float64) - (k - 1) / 2 for k in kernel_size)  # from the centre, in pixels
    factors = torch.exp(-rate * (rows[:, None] ** 2 + columns**2).flatten())
    factors = factors / factors.pow(power).mean() ** (1 / power)
    return tensor_K * factors.to(tensor_K).reshape(-1, *[1] * (tensor_K.ndim - 1))
