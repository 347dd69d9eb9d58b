"""The defects of hardware, at a strength: copies of a trained network with wrong weights, wrong genes or faulty neurons.

| domain | strength | what happens |
|---|---|---|
| `weights` | σ | w + σ·RMS(W)·n, n ~ N(0, 1): programming and read noise of analog synapses (Joshi et al. 2020) |
| `genes` | σ | the same on every X_l and O, before W is decoded |
| `stuck` | p | each weight is 0 with probability p: stuck-at-0 faults of memristive synapses (Lee and Lim 2023) |
| `threshold` | σ | V_th·(1 + δ) of every neuron, δ ~ N(0, σ²), fixed: mismatch of analog neurons (Büchel et al. 2021) |
| `dropped` | p | each spike is lost with probability p |
| `spurious` | p | each silent neuron fires in each step with probability p |
| `lost_step` | n | in n of the T steps no spike leaves any neuron |
| `weight_bits` | p | each bit of the weights' int8 codes flips with probability p: memory at low voltage (Stutz et al. 2021) |
| `gene_bits` | p | the same on the int8 codes of every X_l and O |

Wrong weights are those of the encoded convolutions alone, of a plain network the same ones, so that `weights` and `genes`
compare, and a genetic network with a plain one. Strength 0 changes nothing, except that the two domains of bits round to int8.

Faulty neurons are hooks. Neurons see their steps folded into the batch, (T*B, …), as ``LIF`` does, or apart, (T, B, …), or one
at a time, in T calls on (B, …), as SpikingJelly's in step_mode `m` and `s`. Every draw is of a CPU generator, so that devices
agree. Shapes: T steps, B batch.

References: Joshi et al. 2020, Nature Communications 11:2473; Lee and Lim 2023, arXiv 2312.04840; Büchel et al. 2021, Scientific
Reports 11:23376; Stutz et al. 2021, MLSys, arXiv 2006.13977.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from gee_core.genome.copying import copy_module
from gee_core.genome.encoding import genome_of
from gee_core.genome.quantise import dequantise, quantise
from gee_core.model.base import SpikingNetwork, is_neuron, takes_all_steps
from gee_core.seeding import torch_generator
from gee_core.snn.lif import ILIF, LIF, FoldedSteps, is_channels_last
from gee_core.training.loop import for_inference

OF_GENES = ("genes", "gene_bits")
OF_WEIGHTS = ("weights", "stuck", "weight_bits")
OF_BITS = ("weight_bits", "gene_bits")
LINEAR = (LIF, ILIF, neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode)
"""The neurons whose membrane is linear in their current below the threshold."""
LEAST_THRESHOLD = 0.01
"""The lowest threshold, as a fraction of V_th."""


def unfit(net: nn.Module, domain: str) -> str | None:
    """The reason why ``domain`` cannot be measured on ``net``, or None."""
    if domain in OF_GENES and genome_of(net) is None:
        return "the network is plain and has no genes"
    for name, node in _neurons(net) if domain == "threshold" else ():
        if type(node) not in LINEAR:
            return f"{name} is a {type(node).__name__}, whose membrane is not linear"
        if node.v_reset not in (None, 0.0):
            return f"{name} is reset to {node.v_reset}, not to 0"
    return None


def disturb(net: SpikingNetwork, domain: str, strength: float, seed: int, draw: int = 0) -> nn.Module:
    """A copy of ``net`` for inference, its weights decoded, with the defect ``domain`` at ``strength``, σ, p or n as above.

    Each tensor or neuron module has draws of its own, by ``seed``, the number ``draw`` and its name. ``unfit`` says which
    domains do not fit a network.
    """

    def generator(name: str) -> torch.Generator:
        return torch_generator(seed, "hardware", domain, draw, name)

    changed = copy_module(net) if domain in OF_GENES else for_inference(net)
    if domain in OF_GENES or domain in OF_WEIGHTS:
        tensors, scaled_dim = (genes_of(changed), -1) if domain in OF_GENES else (encoded_weights(changed), 0)
        with torch.no_grad():
            for name, x in tensors.items():
                x.copy_(apply_defect(x, domain, strength, scaled_dim, generator(name)))
    elif strength and domain == "lost_step":
        _lose_steps(changed, int(strength), generator("steps"))
    elif strength:
        for name, node in _neurons(changed):
            if domain == "threshold":
                node.register_forward_pre_hook(partial(_scale_current, strength, generator(name), {}))
            else:
                node.register_forward_hook(partial(_set_some, strength, float(domain == "spurious"), generator(name)))
    return for_inference(changed) if domain in OF_GENES else changed


def genes_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """O and X_0 … X_L of a genetic network, by name."""
    genome = genome_of(net)
    assert genome is not None
    return {"O": genome.O} | {f"X_{layer}": X for layer, X in enumerate(genome.encodings())}


def encoded_weights(net: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a plain or decoded network's convolutions that are, or could be, encoded, by name."""
    assert isinstance(net, SpikingNetwork)
    chain = set(net.conv_chain()[1:])
    return {name: conv.weight for name, conv in net.named_modules() if conv in chain}


def apply_defect(x: Tensor, domain: str, strength: float, scaled_dim: int, generator: torch.Generator) -> Tensor:
    """``x`` with a defect of weights or genes. Its int8 codes have one scale per slice along ``scaled_dim``."""
    if domain in ("weights", "genes"):
        n = torch.randn(x.shape, generator=generator).to(x.device)
        return x + strength * x.square().mean().sqrt() * n
    if domain == "stuck":
        return x.masked_fill(draw_mask(x.shape, strength, generator).to(x.device), 0.0)
    codes, scale = quantise(x, 8, scaled_dim)
    flips = draw_mask((8, *x.shape), strength, generator).to(torch.uint8)  # of every bit, in two's complement
    mask = sum((bit << place for place, bit in enumerate(flips)), torch.zeros_like(flips[0])).to(x.device)
    return dequantise((codes.view(torch.uint8) ^ mask).view(torch.int8), scale, scaled_dim)


def draw_mask(shape: Sequence[int], p: float, generator: torch.Generator) -> Tensor:
    """A bool tensor of ``shape``, each entry true with probability ``p``. With the same draws, a larger ``p`` chooses more."""
    n = math.prod(shape)
    if p == 0.0:
        return torch.zeros(*shape, dtype=torch.bool)
    # 32 random bits are twice as fast as torch.rand
    bits = torch.empty((n + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator).view(torch.int32)
    return (bits[:n] <= max(round(p * 2**32) - 1, 0) - 2**31).reshape(*shape)


def _scale_current(
    sigma: float, generator: torch.Generator, factors: dict[torch.Size, Tensor], node: nn.Module, args: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """A threshold of V_th·(1 + δ): the linear current over 1 + δ."""
    x, *others = args
    shape = x.shape[2 if _steps_apart(node) else 1 :]
    if shape not in factors:
        delta = sigma * torch.randn(shape, generator=generator)
        layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        factors[shape] = (1.0 + delta).clamp_min(LEAST_THRESHOLD).to(x.device)[None].contiguous(memory_format=layout)
    return x / factors[shape], *others


def _set_some(
    p: float, value: float, generator: torch.Generator, node: nn.Module, args: tuple[Tensor, ...], s: Tensor
) -> Tensor:
    """The spikes ``s``, set to ``value`` (0 or 1) with probability ``p``."""
    if s.ndim == 4:  # drawn in the order of channels-last memory, whatever the layout of s
        B, C, H, W = s.shape
        hit = draw_mask((B, H, W, C), p, generator).permute(0, 3, 1, 2).to(s.device)
    else:
        hit = draw_mask(s.shape, p, generator).to(s.device)
    return s.masked_fill(hit & (s == 0) if value else hit, value)


def _lose_steps(net: nn.Module, n: int, generator: torch.Generator) -> None:
    """Silence all neurons in ``n`` of the T steps: the same for all neurons and images."""
    T = int(net.T)  # type: ignore[arg-type]
    kept_T = torch.ones(T).index_fill(0, torch.randperm(T, generator=generator)[:n], 0.0)
    calls: dict[nn.Module, int] = {}

    def silence(node: nn.Module, args: tuple[Tensor, ...], s: Tensor) -> Tensor:
        if isinstance(node, FoldedSteps):
            kept = kept_T.repeat_interleave(len(s) // T)
        elif _steps_apart(node):
            kept = kept_T
        else:
            calls[node] = calls.get(node, -1) + 1
            kept = kept_T[calls[node] % T].expand(len(s))
        return s * kept.to(s).reshape(-1, *[1] * (s.ndim - 1))

    for _, node in _neurons(net):
        node.register_forward_hook(silence)
    net.register_forward_pre_hook(lambda *_: calls.clear())


def _neurons(net: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, node) for name, node in net.named_modules() if is_neuron(node)]


def _steps_apart(node: nn.Module) -> bool:
    return takes_all_steps(node) and not isinstance(node, FoldedSteps)
