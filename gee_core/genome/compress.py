"""Genes for weights that exist already: X and O whose decoded weights approximate those of a trained network (Eq. 6-8).

    net, errors = compress(trained, n_genes=64, example=x)     # a copy; fine-tune it

It looks for the X_0 … X_L that minimise, at every kernel position p and summed over them,

    Σ_l ‖W_l[p] - X_l[p]·O·X_{l-1}[p]ᵀ‖² / ms(W_l)

ms is the mean square of a layer's weights. So the scale of a layer does not count, and its number of weights does.

The start: every X_l spans the g leading left singular vectors of [W_l, W_{l+1}ᵀ] (truncated SVD) and is fitted to its
neighbour, from one layer to both ends. This finds weights that were decoded from g genes exactly. All others are improved by
alternating least squares: with its neighbours fixed, the best X_l solves a linear problem.

Paper: O is fitted too. Here: O is drawn once, orthogonal, because an invertible O adds nothing that X cannot hold:
Y_l = X_l·A_l with A_l·A_{l-1}ᵀ = O turns every X_l·O·X_{l-1}ᵀ into Y_l·Y_{l-1}ᵀ, at all p with the same A_l. So Y is fitted,
and X_l = Y_l·(Oᵀ)^l is exact for any orthogonal O. A limit: the A_l of an O that is far from orthogonal grow with l, so over
a long chain (a ResNet's) Y can be too ill-conditioned for float32. The least-squares genes are used there.

Shapes: K kernel positions (k*k), C or J out-channels, I in-channels, G genes. All in float64 until the end.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gee_core.errors import whole_number
from gee_core.genome.copying import check_values, without_autocast
from gee_core.genome.encoding import Genome, encoded_copy
from gee_core.genome.genotype import TRUNCATED_VARIANCE
from gee_core.seeding import check_seed

EXACT_CUTOFF, CUTOFF = 1e-10, 1e-2
"""Singular values below this fraction of the largest count as 0 in a start: hardly any, to find decoded weights exactly, or
more, because dividing by small singular values makes X large and ill-conditioned."""

EXACT = 0.02
"""Root mean square of the relative errors, in float32, below which the weights count as decoded from genes."""

PROXIMAL = 1e-3
"""Weight of the proximal term in a sweep's least squares, as a fraction of the mean eigenvalue."""


def compress(
    net: nn.Module,
    n_genes: int,
    *,
    example: Tensor | None = None,
    convs: Sequence[nn.Conv2d] | None = None,
    sweeps: int = 60,
    seed: int = 0,
) -> tuple[nn.Module, list[float]]:
    """An encoded copy of ``net`` whose genes approximate the weights that ``net`` has.

    Args:
        net: any trained network. It is not changed.
        n_genes: g.
        example: an input of ``net``, to find the chain of convolutions, as for ``encode``.
        convs: the chain itself, instead of ``example``. Its first convolution, the stem, keeps its weight.
        sweeps: of alternating least squares over all layers.
        seed: of O.

    Returns:
        The copy, and the relative error ‖W_l - Ŵ_l‖ / ‖W_l‖ of every encoded layer, l = 1 … L.

    Raises:
        ValueError: the chain cannot be encoded (see ``encode``), its weights are not finite, or an argument is out of range.

    Examples:
        >>> convs = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
        >>> net, errors = gee_core.compress(convs, 8, example=torch.zeros(1, 3, 8, 8))
        >>> len(errors), errors[0] < 0.01
        (1, True)
    """
    sweeps, seed = whole_number("sweeps", sweeps, least=0), check_seed(seed)
    check_values(net)
    encoded, genome, chain = encoded_copy(net, n_genes, example, convs)
    weights = [conv.weight.detach() for conv in chain[1:]]
    if not all(W.isfinite().all() for W in weights):
        raise ValueError("the weights are not finite: there is nothing to approximate")
    W = [W_JIhw.flatten(2).permute(2, 0, 1).double() for W_JIhw in weights]
    norms = [float(w.square().mean().sqrt()) or 1.0 for w in W]
    Y = _fit([w / norm for w, norm in zip(W, norms, strict=True)], n_genes, sweeps)
    O = torch.randn(n_genes, n_genes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    O = torch.linalg.qr(O)[0].to(Y[0].device)
    X = [y @ torch.linalg.matrix_power(O.mT, l) for l, y in enumerate(Y)]
    with torch.no_grad():
        for gene, value in zip([genome.O, *genome.encodings()], _scaled(X, O, norms, genome), strict=True):
            gene.copy_(value)
        with without_autocast(O.device):
            decoded = [conv.weight for conv in genome.encoded_convs()]
        return encoded, [_relative(W_hat - W_l, W_l) for W_hat, W_l in zip(decoded, weights, strict=True)]


def _relative(difference: Tensor, W: Tensor) -> float:
    return (difference.double().norm() / W.double().norm().clamp_min(torch.finfo(torch.float64).tiny)).item()


def _error(W: list[Tensor], Y: list[Tensor]) -> float:
    """Root mean square of the layers' relative errors with Y rounded to float32, in which large numbers cancel badly."""
    Y = [y.float().double() for y in Y]
    return float(np.sqrt(np.mean([_relative(Y[l + 1] @ Y[l].mT - w, w) ** 2 for l, w in enumerate(W)])))


def _fit(W: list[Tensor], n_genes: int, sweeps: int) -> list[Tensor]:
    """[Y_0 … Y_L]: an exact solution where there is one, else the best after ``sweeps`` from starts at two layers."""
    L = len(W)
    # for every Y_l, an orthonormal basis (K, C_l, ≤ G) of the leading directions
    spaces = [torch.linalg.svd(_weights_at(W, l), full_matrices=False)[0][:, :, :n_genes] for l in range(L + 1)]
    exact = (_balanced(_start(W, spaces, n_genes, EXACT_CUTOFF, l)) for l in range(0, L + 1, max(1, L // 8)))
    least, best = min(((_error(W, Y), Y) for Y in exact), key=lambda pair: pair[0])
    if least < EXACT or sweeps == 0:
        return best
    fitted = []
    for anchor in sorted({L // 4, L // 2}):
        Y = _start(W, spaces, n_genes, CUTOFF, anchor)
        for sweep in range(sweeps):
            _sweep(W, Y, backwards=sweep % 2 == 1)
        fitted.append(_balanced(Y))
    return min(fitted, key=lambda Y: _error(W, Y))


def _weights_at(W: list[Tensor], l: int) -> Tensor:
    """[W_l, W_{l+1}ᵀ], the weights on both sides of layer l's neurons."""
    return torch.cat([*([W[l - 1]] if l > 0 else []), *([W[l].mT] if l < len(W) else [])], 2)


def _start(W: list[Tensor], spaces: list[Tensor], n_genes: int, cutoff: float, anchor: int) -> list[Tensor]:
    """Y with Y_anchor the basis of its space. Towards both ends every Y_l is fitted to its neighbour and the weight between."""
    Y = [R @ torch.eye(R.shape[2], n_genes, dtype=R.dtype, device=R.device) for R in spaces]
    for l in range(anchor + 1, len(Y)):
        Y[l] = spaces[l] @ _completed(spaces[l].mT @ W[l - 1], Y[l - 1].mT, cutoff)
    for l in range(anchor - 1, -1, -1):
        Y[l] = spaces[l] @ _completed(spaces[l].mT @ W[l].mT, Y[l + 1].mT, cutoff)
    return Y


def _completed(target: Tensor, A_KGC: Tensor, cutoff: float) -> Tensor:
    """B (K, R, G) of least squares, B·A = target. G - C open directions get the mean singular value, where B is weakest."""
    B = target @ torch.linalg.pinv(A_KGC, rtol=cutoff)
    (G, C), R = A_KGC.shape[1:], B.shape[1]
    n_open = min(G - C, R)
    if n_open <= 0:
        return B
    open_KGN = torch.linalg.svd(A_KGC, full_matrices=True)[0][:, :, C : C + n_open]
    U, S, _ = torch.linalg.svd(B, full_matrices=True)
    mean = S[:, : min(C, R)].clamp_min(1e-30).log().mean(1).exp()
    return B + mean[:, None, None] * (U[:, :, R - n_open :] @ open_KGN.mT)


def _sweep(W: list[Tensor], Y: list[Tensor], backwards: bool) -> None:
    """Replace every Y_l in turn, in place, by the solution of Y_l·[Y_{l-1}ᵀ, Y_{l+1}ᵀ] = [W_l, W_{l+1}ᵀ]."""
    for l in reversed(range(len(Y))) if backwards else range(len(Y)):
        M = torch.cat([Y[near].mT for near in (l - 1, l + 1) if 0 <= near < len(Y)], 2)
        H = M @ M.mT
        near_by = PROXIMAL * H.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)[:, None, None]
        H = H + near_by * torch.eye(H.shape[1], dtype=H.dtype, device=H.device)
        Y[l] = torch.linalg.solve(H, M @ _weights_at(W, l).mT + near_by * Y[l].mT).mT


def _balanced(Y: list[Tensor]) -> list[Tensor]:
    """The same products with least Σ‖Y_l‖²/C_l: even l become Y_l·A, odd ones Y_l·A⁻¹, with A of one kernel position.

    With the Grams P of the even and Q of the odd ones, A² is their geometric mean P^-½·(P^½·Q·P^½)^½·P^-½.
    """
    P, Q = (sum((y.mT @ y / y.shape[1] for y in part), start=torch.zeros(())) for part in (Y[::2], Y[1::2]))
    root, inverse = _roots(P)
    A2 = inverse @ _roots(root @ Q @ root)[0] @ inverse
    A, A_inverse = _roots((A2 + A2.mT) / 2)
    return [y @ (A_inverse if l % 2 else A) for l, y in enumerate(Y)]


def _roots(P_KGG: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a symmetric positive matrix, and its inverse."""
    values, V = torch.linalg.eigh(P_KGG)
    values = values.clamp_min(1e-30).maximum(1e-15 * values[:, -1:]).sqrt()
    return (V * values[:, None]) @ V.mT, (V / values[:, None]) @ V.mT


def _scaled(X: list[Tensor], O: Tensor, norms: list[float], genome: Genome) -> list[Tensor]:
    """[O, X_0 … X_L] for the original weights, ``norms`` times the fitted ones, scaled as near to the analytic σ's as possible.

    The decoded weights leave two scales open: of all even against all odd X_l, and of O against X.
    """
    sizes = [float(x.square().mean().sqrt()) or 1.0 for x in X]
    analytic = genome.analytic_genotype()
    # log a_l = constant + by_o·log o + by_0·log a_0 where a_l·o·a_{l-1} = norms[l-1]: two scales are free
    scales = [np.array([0.0, 0.0, 1.0])]
    for norm in norms:
        scales.append(np.array([math.log(norm), -1.0, 0.0]) - scales[-1])
    rows = np.array([np.array([0.0, 1.0, 0.0]), *scales])
    wanted = np.log(np.sqrt(TRUNCATED_VARIANCE) * np.array([analytic.sigma_O, *analytic.sigma_X]))
    there = np.log([float(O.square().mean().sqrt()), *sizes])
    free = np.linalg.lstsq(rows[:, 1:], wanted - there - rows[:, 0], rcond=None)[0]
    factors = np.exp(rows[:, 0] + rows[:, 1:] @ free)
    return [value * float(factor) for value, factor in zip([O, *X], factors, strict=True)]
