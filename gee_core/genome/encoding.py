"""Genetic encoding of any chain of convolutions, in place, through ``torch.nn.utils.parametrize``.

    genome = encode(net, conv_chain(net, torch.zeros(1, 3, 32, 32)), n_genes=64)   # net computes as before, grown from genes
    plain = decode(net)                                                           # the same function, ordinary weights

In the state dict every encoded convolution holds ``….parametrizations.weight.original``: its X_l, (k², C_l, g), in place
of a weight. ``genome.O`` (g, g) and ``genome.X_0`` (k², C_0, g) complete it.

Shapes: K kernel positions (k*k), I in-channels, J out-channels, G genes.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gee_core.genome.weight import decode_conv, decode_macs
from gee_core.genome.wiring import analytic_sigmas, truncated_normal_


class GeneticWeight(nn.Module):
    """The parametrization: turns a convolution's X_l into its weight W_l, looking up O and X_{l-1} where they live."""

    def __init__(self, genome: "Genome", previous: nn.Conv2d | None, conv: nn.Conv2d):
        super().__init__()
        self._sources = (genome, previous)  # a tuple, so that torch does not register them a second time
        self.kernel_size = tuple(conv.kernel_size)

    def X_in(self) -> Tensor:
        """The encoding (K, I, G) of this convolution's input neurons: X_{l-1}."""
        genome, previous = self._sources
        return genome.X_0 if previous is None else previous.parametrizations.weight.original

    def forward(self, X_out_KJG: Tensor) -> Tensor:
        """W (J, I, k_h, k_w)."""
        return decode_conv(self.X_in(), self._sources[0].O, X_out_KJG, self.kernel_size)

    def right_inverse(self, W: Tensor) -> Tensor:
        """A place (K, J, G) for X_l, still zero: ``Genome.initialise`` fills it."""
        n_genes = self._sources[0].n_genes
        return W.new_zeros(W.shape[2] * W.shape[3], W.shape[0], n_genes)


class Genome(nn.Module):
    """The gene interaction matrix O, shared by every encoded layer, and X_0, the encoding of the stem's output neurons.

    Attributes:
        O: (G, G), not symmetric.
        X_0: (K, C_0, G).
        n_genes: G.
        channels: [C_0 … C_L].
        kernel_positions: K.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], n_genes: int):
        super().__init__()
        self._convs = tuple(convs)
        self.n_genes = n_genes
        self.channels = [conv.out_channels for conv in convs]
        self.kernel_positions = convs[1].kernel_size[0] * convs[1].kernel_size[1]
        like = convs[1].weight
        self.O = nn.Parameter(like.new_zeros(n_genes, n_genes))
        self.X_0 = nn.Parameter(like.new_zeros(self.kernel_positions, self.channels[0], n_genes))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` as it is: a genome that ``encode`` adds to an ``nn.Sequential`` runs as its last layer."""
        return x

    def encodings(self) -> list[nn.Parameter]:
        """[X_0 … X_L], each (K, C_l, G)."""
        return [self.X_0, *(conv.parametrizations.weight.original for conv in self._convs[1:])]

    def analytic_sigmas(self) -> tuple[float, list[float]]:
        """(σ_O, [σ_0 … σ_L]) that give every decoded weight He's variance: see ``wiring.analytic_sigmas``."""
        return analytic_sigmas(self.channels, self.n_genes, self.kernel_positions)

    @torch.no_grad()
    def initialise(self, sigma_O: float, sigma_X: Sequence[float], generator: torch.Generator) -> None:
        """Draw O ~ TN(0, σ_O²) and X_l ~ TN(0, σ_l²), in this order, from ``generator`` (Eq. 9).

        Raises:
            ValueError: there is not one σ per encoding.
        """
        X = self.encodings()
        if len(sigma_X) != len(X):
            raise ValueError(f"sigma_X needs one value per encoding X_0 … X_{len(X) - 1}, got {len(sigma_X)}")
        for tensor, sigma in zip([self.O, *X], [sigma_O, *sigma_X], strict=True):
            drawn = torch.empty(tensor.shape, device=generator.device)
            tensor.copy_(truncated_normal_(drawn, sigma, generator))

    def decode_macs(self) -> list[int]:
        """Multiply-accumulates that building each W_l once costs, for l = 1 … L."""
        pairs = itertools.pairwise(self.channels)
        return [decode_macs(self.kernel_positions, I, J, self.n_genes) for I, J in pairs]

    def encoded_convs(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions whose weights are grown, l = 1 … L."""
        return self._convs[1:]

    def extra_repr(self) -> str:
        return f"n_genes={self.n_genes}, channels={self.channels}"


def genome_of(net: nn.Module) -> Genome | None:
    """The genes of a network that ``encode`` changed; None of a plain one."""
    genome = net._modules.get("genome")
    return genome if isinstance(genome, Genome) else None


def conv_chain(net: nn.Module, example: Tensor) -> list[nn.Conv2d]:
    """The convolutions of ``net`` that an encoding can chain, in order of first execution on ``example``.

    Taken are ungrouped 2-d convolutions with a kernel larger than 1x1. The first is the stem: it keeps its weight.
    """
    names: list[str] = []
    probe = copy.deepcopy(net).eval()  # a copy, so that neurons of the user's own keep their charge
    for name, module in probe.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and max(module.kernel_size) > 1:
            module.register_forward_pre_hook(lambda conv, args, name=name: names.append(name))
    with torch.no_grad():
        probe(example)
    return [net.get_submodule(name) for name in dict.fromkeys(names)]


def encode(net: nn.Module, convs: Sequence[nn.Conv2d], n_genes: int, seed: int = 0) -> Genome:
    """Replace the weights of ``convs[1:]`` by genes, in place, and give ``net`` the shared rest as ``net.genome``.

    Args:
        net: any network that contains ``convs``.
        convs: the chain, in order of execution; each takes as many channels as the one before puts out. ``convs[0]``,
            the stem, stays plain: only its output neurons are encoded.
        n_genes: g.
        seed: of the initial wiring, drawn with the analytic σ's (see ``wiring.analytic_sigmas``).

    Returns:
        The genome: initialise it again with evolved σ's, or read X and O.

    Raises:
        ValueError: the chain is too short, grouped, of mixed kernel sizes, or does not connect; or n_genes < 1.
    """
    _check_chain(net, convs, n_genes)
    genome = Genome(convs, n_genes)
    net.add_module("genome", genome)
    for previous, conv in zip([None, *convs[1:-1]], convs[1:], strict=True):
        parametrize.register_parametrization(conv, "weight", GeneticWeight(genome, previous, conv))
    genome.initialise(*genome.analytic_sigmas(), torch.Generator().manual_seed(seed))
    return genome


def _check_chain(net: nn.Module, convs: Sequence[nn.Conv2d], n_genes: int) -> None:
    if n_genes < 1:
        raise ValueError(f"n_genes must be >= 1, got {n_genes}")
    if len(convs) < 2:
        raise ValueError(f"a chain needs the stem and at least one more convolution, got {len(convs)}")
    names = {module: name for name, module in net.named_modules()}
    for position, conv in enumerate(convs):
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(f"{conv} is not a Conv2d: only ordinary 2-d convolutions can be encoded")
        if conv in convs[:position]:
            raise ValueError(f"{names.get(conv, conv)} is in the chain twice: each convolution is encoded once")
        if conv not in names:
            raise ValueError(f"{conv} is not part of the network that is to be encoded")
        if parametrize.is_parametrized(conv, "weight"):
            raise ValueError(f"{names[conv]} is already encoded: decode the network first")
        if conv.groups != 1:
            raise ValueError(f"{names[conv]} has groups={conv.groups}: only ungrouped convolutions can be encoded")
    if hasattr(net, "genome"):
        raise ValueError("the network has a `genome` already: one chain per network; decode it first, or rename yours")
    for previous, conv in itertools.pairwise(convs):
        if conv.in_channels != previous.out_channels:
            raise ValueError(
                f"the chain breaks at {names[conv]}: it takes {conv.in_channels} channels, "
                f"{names[previous]} before it puts out {previous.out_channels}"
            )
        if conv.kernel_size != convs[1].kernel_size:
            raise ValueError(
                f"{names[conv]} has kernel {conv.kernel_size}, {names[convs[1]]} has {convs[1].kernel_size}: "
                "a chain shares one kernel size, since each encoding serves two layers"
            )


def decode(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in which every encoded convolution is plain again, with the weight its genes grow.

    A network without genes is copied as it is.
    """
    plain = copy.deepcopy(net)
    for module in list(plain.modules()):
        genome = genome_of(module)
        if genome is not None:
            weights = [conv.weight.detach().clone() for conv in genome.encoded_convs()]
            for conv, W in zip(genome.encoded_convs(), weights, strict=True):
                _make_plain(conv, W)
            del module._modules["genome"]
    return plain


def _make_plain(conv: nn.Conv2d, W: Tensor) -> None:
    """Undo the parametrization of a copy. ``remove_parametrizations`` would do it to the original too: they share a class."""
    conv.__class__ = parametrize.type_before_parametrizations(conv)
    del conv.parametrizations
    conv.weight = nn.Parameter(W)
