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

References: Joshi et al. 2020, Nature Communications 11:2473; Lee and Lim 2023, arXiv 2312.04840; Büchel et al. 2021, Scientific
Reports 11:23376; Stutz et al. 2021, MLSys, arXiv 2006.13977.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gee_core.config.params import DOMAINS
from gee_core.evaluation.faulty_neurons import add_mismatch, chosen, lose_steps, set_spikes, unlike_neurons
from gee_core.genome.copying import copied
from gee_core.genome.encoding import genome_of
from gee_core.genome.quantise import dequantise, quantise
from gee_core.model.base import SpikingNetwork
from gee_core.seeding import torch_generator
from gee_core.training.loop import for_inference

OF_GENES = ("genes", "gene_bits")
OF_WEIGHTS = ("weights", "stuck", "weight_bits")
OF_BITS = ("weight_bits", "gene_bits")


def unfit(net: SpikingNetwork, domain: str) -> str | None:
    """The reason why ``domain`` cannot be measured on ``net``, or None."""
    if domain in OF_GENES and genome_of(net) is None:
        return "the network is plain and has no genes"
    return unlike_neurons(net) if domain == "threshold" else None


def disturbed(net: SpikingNetwork, domain: str, strength: float, seed: int, draw: int = 0) -> nn.Module:
    """A copy of ``net`` for inference, its weights decoded, with the defect ``domain`` at ``strength``, σ, p or n as above.

    Each tensor or neuron module has draws of its own, by ``seed``, the number ``draw`` and its name. ValueError where the
    domain is unknown or does not fit the network, or the strength is out of range.
    """
    if domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}: choose one of {', '.join(DOMAINS)}")
    if reason := unfit(net, domain):
        raise ValueError(f"{domain}: {reason}")
    most = net.T if domain == "lost_step" else 1e6 if domain in ("weights", "genes", "threshold") else 1
    if not 0 <= strength <= most or (domain == "lost_step" and strength % 1):
        kind = "a whole number" if domain == "lost_step" else "a number"
        raise ValueError(f"{domain}: strength must be {kind} from 0 to {most:g}, got {strength}")

    def generator(name: str) -> torch.Generator:
        return torch_generator(seed, "hardware", domain, draw, name)

    if domain in OF_GENES:
        changed = copied(net)
        _change(genes_of(changed), -1, domain, strength, generator)
        return for_inference(changed)
    plain = for_inference(net)
    assert isinstance(plain, SpikingNetwork)
    if domain in OF_WEIGHTS:
        _change(encoded_weights(plain), 0, domain, strength, generator)
    elif strength == 0:
        return plain
    elif domain == "threshold":
        add_mismatch(plain, strength, generator)
    elif domain == "lost_step":
        lose_steps(plain, int(strength), generator("steps"))
    else:
        set_spikes(plain, strength, float(domain == "spurious"), generator)
    return plain


def genes_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """O and X_0 … X_L of a genetic network, by name."""
    genome = genome_of(net)
    assert genome is not None
    return {"O": genome.O} | {f"X_{layer}": X for layer, X in enumerate(genome.encodings())}


def encoded_weights(net: SpikingNetwork) -> dict[str, nn.Parameter]:
    """The weights of a plain or decoded network's convolutions that are, or could be, encoded, by name."""
    chain = set(net.conv_chain()[1:])
    return {name: conv.weight for name, conv in net.named_modules() if conv in chain}


@torch.no_grad()
def _change(
    tensors: dict[str, nn.Parameter], scaled_dim: int, domain: str, strength: float, generator: Callable[[str], torch.Generator]
) -> None:
    for name, x in tensors.items():
        x.copy_(faulty(x, domain, strength, scaled_dim, generator(name)))


def faulty(x: Tensor, domain: str, strength: float, scaled_dim: int, generator: torch.Generator) -> Tensor:
    """``x`` with a defect of weights or genes. Its int8 codes have one scale per slice along ``scaled_dim``."""
    if domain in ("weights", "genes"):
        n = torch.randn(x.shape, generator=generator).to(x.device)
        return x + strength * x.square().mean().sqrt() * n
    if domain == "stuck":
        return x.masked_fill(chosen(x.shape, strength, generator).to(x.device), 0.0)
    codes, scale = quantise(x, 8, scaled_dim)
    flips = chosen((8, *x.shape), strength, generator).to(torch.uint8)  # of every bit, in two's complement
    mask = sum((bit << place for place, bit in enumerate(flips)), torch.zeros_like(flips[0])).to(x.device)
    return dequantise((codes.view(torch.uint8) ^ mask).view(torch.int8), scale, scaled_dim)
