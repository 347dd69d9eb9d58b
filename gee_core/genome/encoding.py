"""Genetic encoding of any chain of convolutions, through ``torch.nn.utils.parametrize``.

    net = encode(net, n_genes=64, example=torch.zeros(1, 3, 32, 32))   # a copy whose weights are decoded from genes
    plain = decode(net)                                                # the same function with plain weights

In the state dict, every encoded convolution has ``….parametrizations.weight.original``, its X_l of shape (k², C_l, g), in
place of a weight. The rest of the genes is ``genome.O`` (g, g) and ``genome.X_0`` (k², C_0, g).

Shapes: K kernel positions (k*k), I in-channels, J out-channels, G genes.
"""

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gee_core.config import Shape
from gee_core.config.section import MOST_GENES
from gee_core.errors import InputError, is_number, whole_number
from gee_core.genome.chain import check_chain, explore_chain, genes_within, list_reasons
from gee_core.genome.copying import copy_module, without_autocast
from gee_core.genome.genotype import Genotype, analytic_genotype
from gee_core.genome.wiring import draw_genes
from gee_core.seeding import check_seed


def decode_conv(X_in_KIG: Tensor, O_GG: Tensor, X_out_KJG: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """The convolution weight W (J, I, k_h, k_w) decoded from its genes: W[p] = X_out[p] · O · X_in[p]ᵀ, Eq. 1 and 3.

    Its memory layout is (J, k_h, k_w, I), channels-last.
    """
    W_KJI = torch.matmul(torch.matmul(X_out_KJG, O_GG), X_in_KIG.transpose(1, 2))
    return W_KJI.transpose(0, 1).contiguous().unflatten(1, kernel_size).permute(0, 3, 1, 2)


class GeneticWeight(nn.Module):
    """The parametrization of one convolution: computes W_l from its own X_l and the shared O and X_{l-1}."""

    def __init__(self, genome: "Genome", previous: nn.Conv2d | None, conv: nn.Conv2d):
        super().__init__()
        self._sources = (genome, previous)  # a tuple, so that torch does not register them twice
        self.kernel_size = (conv.kernel_size[0], conv.kernel_size[1])
        self.channels_last = not conv.weight.is_contiguous()
        self.registered = False

    def forward(self, X_out_KJG: Tensor) -> Tensor:
        """W (J, I, k_h, k_w), in the memory layout of the weight in whose place it is."""
        genome, previous = self._sources
        X_in_KIG = genome.X_0 if previous is None else encoding(previous)
        W = decode_conv(X_in_KIG, genome.O, X_out_KJG, self.kernel_size)
        return W if self.channels_last else W.contiguous()

    def right_inverse(self, W: Tensor) -> Tensor:
        """Zeros (K, J, G) in place of X_l, which no weight determines. A TypeError later, when a weight is assigned."""
        if self.registered:
            raise TypeError(
                "the weight of an encoded convolution is computed from its genes: change those, or decode the network"
            )
        return W.new_zeros(W.shape[2] * W.shape[3], W.shape[0], self._sources[0].n_genes)


class Genome(nn.Module):
    """The gene interaction matrix O, shared by every encoded layer, and X_0, the encoding of the stem's output neurons.

    Attributes:
        O: (G, G), not symmetric.
        X_0: (K, C_0, G).
        n_genes: G.
        channels: [C_0 … C_L].
        kernel_size: of the encoded convolutions, of K ``kernel_positions``.
        left_out: the convolutions that ``encode`` left out on its example, by name, and why (see ``left_out``).

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> net.genome.O.shape, net.genome.channels[:2]
        (torch.Size([8, 8]), [32, 32])
    """

    def __init__(self, convs: Sequence[nn.Conv2d], n_genes: int):
        super().__init__()
        self._convs = tuple(convs)
        self.n_genes = n_genes
        self.channels = [conv.out_channels for conv in convs]
        self.kernel_size = (convs[1].kernel_size[0], convs[1].kernel_size[1])
        self.kernel_positions = self.kernel_size[0] * self.kernel_size[1]
        self.left_out: dict[str, str] = {}
        like = convs[1].weight
        trained = any(conv.weight.requires_grad for conv in convs[1:])  # as each X_l is where its convolution is
        self.O = nn.Parameter(like.new_zeros(n_genes, n_genes), trained)
        self.X_0 = nn.Parameter(like.new_zeros(self.kernel_positions, self.channels[0], n_genes), trained)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` unchanged: in an ``nn.Sequential``, the genome that ``encode`` adds runs as the last layer."""
        return x

    def encodings(self) -> list[nn.Parameter]:
        """[X_0 … X_L], each of shape (K, C_l, G)."""
        return [self.X_0, *(encoding(conv) for conv in self._convs[1:])]

    def analytic_genotype(self) -> Genotype:
        """The σ's that give every decoded weight He's variance: see ``genotype.analytic_genotype``."""
        return analytic_genotype(self.channels, self.n_genes, self.kernel_positions)

    @torch.no_grad()
    def initialise(self, genotype: Genotype, generator: torch.Generator) -> None:
        """Draw O ~ TN(0, σ_O²) and X_l ~ TN(0, σ_l²) from ``generator`` (Eq. 9), shaped by the genotype's genes of shape."""
        genes = [self.O, *self.encodings()]
        O, X = draw_genes(genotype, self.channels, self.n_genes, self.kernel_size, generator)
        for tensor, drawn in zip(genes, [O, *X], strict=True):
            tensor.copy_(drawn)

    def decode_macs(self) -> list[int]:
        """Multiply-accumulates of decoding each W_l once, k²·(J·g² + J·g·I), for l = 1 … L."""
        K, G = self.kernel_positions, self.n_genes
        return [K * (J * G**2 + J * G * I) for I, J in itertools.pairwise(self.channels)]

    def encoded_convs(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions whose weights are decoded from genes, l = 1 … L."""
        return self._convs[1:]

    def chain(self) -> tuple[nn.Conv2d, ...]:
        """The stem and the encoded convolutions, in order."""
        return self._convs

    def extra_repr(self) -> str:
        others = f", left out: {list_reasons(self.left_out)}" if self.left_out else ""
        return f"n_genes={self.n_genes}, channels={self.channels}{others}"


def encoding(conv: nn.Conv2d) -> nn.Parameter:
    """X_l, which takes the place of the weight of an encoded convolution."""
    if not parametrize.is_parametrized(conv, "weight"):
        problem = "a convolution of the chain has no genes any more, which the next weight needs"
        raise InputError(problem, "use gee_core.decode, on the network as it was, in place of torch's remove_parametrizations")
    return cast(nn.Parameter, _parametrizations(conv).original)  # a tensor of another kind inside functional_call


def genome_of(net: nn.Module) -> Genome | None:
    """The genes of an encoded network, or None for a plain one."""
    genome = net._modules.get("genome")
    return genome if isinstance(genome, Genome) else None


def genomes(net: nn.Module) -> list[Genome]:
    """The genes of ``net`` and of its parts."""
    return [module for module in net.modules() if isinstance(module, Genome)]


def encode(
    net: nn.Module,
    n_genes: int | None = None,
    *,
    ratio: float | None = None,
    example: Tensor | None = None,
    convs: Sequence[nn.Conv2d] | None = None,
    wiring: Genotype | Shape | None = None,
    seed: int = 0,
) -> nn.Module:
    """A copy of ``net`` in which genes take the place of the weights of a chain of convolutions.

    The first convolution of the chain, the stem, keeps its weight: only its output neurons are encoded. The genes start at
    the analytic wiring, under which every decoded weight has He's variance. The weights they replace play no part.

    Args:
        net: any network. It is not changed.
        n_genes: g. A warning says where the copy is larger than ``net``.
        ratio: in place of ``n_genes``, the part of the parameters of ``net`` that the copy may have, such as 0.4; g is the
            greatest that keeps within it.
        example: an input of ``net``, to find the chain with ``conv_chain``.
        convs: the chain itself, instead of ``example``: convolutions of ``net`` in order of execution, each of which takes as
            many channels as the one before puts out.
        wiring: the distributions that the genes are drawn from: a genotype, or a shape, whose σ's are then the analytic ones;
            None for the neutral shape. Genes of other groups have no effect here.
        seed: of the initial wiring.

    Returns:
        The copy. Its genes are ``net.genome``: initialise them again with evolved σ's, or read X and O.

    Raises:
        ValueError: the network raises on ``example``; the chain is too short, grouped, of mixed kernel sizes, or does not
            connect; or another argument is out of range or does not fit the network.
        TypeError: ``example`` is no tensor, or ``wiring`` neither of the two.

    Examples:
        >>> convs = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.Conv2d(64, 64, 3), torch.nn.Conv2d(64, 64, 3))
        >>> net = gee_core.encode(convs, ratio=0.4, example=torch.zeros(1, 3, 8, 8))
        >>> [sum(p.numel() for p in module.parameters()) for module in (convs, net)]
        [75648, 29824]
    """
    if not isinstance(wiring, Genotype | Shape | None):
        raise TypeError(f"wiring must be a Genotype, a Shape or None, got {type(wiring).__name__}: write Shape(omega_X=0.5)")
    if (n_genes is None) == (ratio is None):
        raise ValueError("give exactly one of n_genes, such as 64, and ratio, such as 0.4")
    if ratio is not None and not (is_number(ratio, 0, 1) and ratio > 0):
        raise ValueError(f"ratio must be a number above 0 and at most 1, got {ratio!r}")
    seed = check_seed(seed)
    encoded, genome, chain = encoded_copy(net, 1 if n_genes is None else n_genes, example, convs)
    if ratio is not None:
        encoded, genome, chain = encoded_copy(net, genes_within(net, chain, ratio), None, chain)
    before, after = (sum(p.numel() for p in each.parameters()) for each in (net, encoded))
    if after > before:
        most = "ratio=1.0 takes the most genes that add none"
        warnings.warn(f"encode: {after:,} parameters in place of {before:,}: {most}", stacklevel=2)
    genotype = wiring if isinstance(wiring, Genotype) else replace(genome.analytic_genotype(), shape=wiring or Shape())
    genome.initialise(genotype, torch.Generator().manual_seed(seed))
    return encoded


def encoded_copy(
    net: nn.Module, n_genes: int, example: Tensor | None, convs: Sequence[nn.Conv2d] | None
) -> tuple[nn.Module, Genome, list[nn.Conv2d]]:
    """(a copy of ``net`` with genes that are still zero, those genes, the chain in ``net``). Arguments as for ``encode``."""
    if (example is None) == (convs is None):
        raise ValueError("give exactly one of example (an input of the network) and convs (its convolutions in order)")
    n_genes = whole_number("n_genes", n_genes, most=MOST_GENES)
    chain, others = explore_chain(net, example) if example is not None else (list(convs or ()), {})
    check_chain(net, chain, others)
    names = {module: name for name, module in net.named_modules()}
    encoded = copy_module(net)
    twins = [cast(nn.Conv2d, encoded.get_submodule(names[conv])) for conv in chain]
    genome = attach_genome(encoded, twins, n_genes)
    genome.left_out = others
    return encoded, genome, chain


def attach_genome(net: nn.Module, convs: Sequence[nn.Conv2d], n_genes: int) -> Genome:
    """Replace the weights of ``convs[1:]`` by genes that are still zero, in place and unchecked, the rest as ``net.genome``."""
    genome = Genome(convs, n_genes)
    net.add_module("genome", genome)
    for previous, conv in zip([None, *convs[1:-1]], convs[1:], strict=True):
        # unsafe: without torch's check of the shape, which computes W, and on the device `meta` loads a part of the compiler
        weight = GeneticWeight(genome, previous, conv)
        parametrize.register_parametrization(conv, "weight", weight, unsafe=True)
        weight.registered = True
    return genome


def check_parametrizations(net: nn.Module) -> None:
    """Raise ValueError where a weight passes through another parametrization after its genes, which no file holds."""
    for name, module in net.named_modules():
        if _is_encoded(module) and len(_parametrizations(module)) > 1:
            problem = f"the weight of {name} has a parametrization after its genes, which a file of genes does not hold"
            raise ValueError(f"{problem}: decode the network and save its state_dict() with safetensors or torch")


def decode(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in which every encoded convolution is plain again, with the weight that its genes decode to.

    A network without genes is copied as it is. A part of an encoded network is decoded with the genes of the whole.

    Args:
        net: the network. It is not changed.

    Returns:
        The copy. Its outputs are those of ``net``.

    Raises:
        InputError: the network cannot be copied; another parameter of an encoded convolution has a parametrization too; or it
            lacks some of the genes that its weights need.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125).eval()
        >>> x = torch.rand(2, 3, 32, 32)
        >>> torch.allclose(gee_core.decode(net)(x), net(x))
        True
    """
    plain = copy_module(net)
    encoded = [module for module in plain.modules() if _is_encoded(module)]
    weights = []
    for conv in encoded:
        if others := set(cast(nn.ModuleDict, conv.parametrizations)) - {"weight"}:
            which = f"the {min(others)} of an encoded convolution has a parametrization"
            raise InputError(which, "call torch's parametrize.remove_parametrizations before the genes are decoded")
        part = _parametrizations(conv)
        with without_autocast(part.original.device):  # not conv.weight: parametrize.cached() keeps one for all copies
            weights.append(nn.Parameter(part().detach().clone(), part.original.requires_grad))
    for conv, weight in zip(encoded, weights, strict=True):
        # remove_parametrizations would change the original too, because the copy shares its class.
        conv.__class__ = parametrize.type_before_parametrizations(conv)
        del conv.parametrizations
        conv.weight = weight
    for module in list(plain.modules()):
        if genome_of(module) is not None:
            del module._modules["genome"]
    return plain


def _is_encoded(module: nn.Module) -> bool:
    """Whether the weight of ``module`` is decoded from genes."""
    return parametrize.is_parametrized(module, "weight") and isinstance(_parametrizations(module)[0], GeneticWeight)


def _parametrizations(module: nn.Module) -> parametrize.ParametrizationList:
    return cast(parametrize.ParametrizationList, module.get_submodule("parametrizations.weight"))
