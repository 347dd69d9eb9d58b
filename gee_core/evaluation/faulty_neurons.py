"""Neurons that are unlike each other, lose spikes, or fire without cause: hooks on the neurons of a network.

Shapes: T steps, B batch. Neurons see their steps folded into the batch, (T*B, …), as ``LIF`` does, or apart, (T, B, …), or one
at a time, in T calls on (B, …), as SpikingJelly's in step_mode `m` and `s`. Every draw is of a CPU generator, so that devices
agree.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from gee_core.model.base import SpikingNetwork, is_neuron, takes_all_steps
from gee_core.snn.lif import ILIF, LIF, FoldedSteps, is_channels_last

LINEAR = (LIF, ILIF, neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode)
"""The neurons whose membrane is linear in their current below the threshold."""
LEAST_THRESHOLD = 0.01
"""The lowest threshold, as a fraction of V_th."""

Generators = Callable[[str], torch.Generator]
"""A generator of its own for every neuron module, by its name."""


def chosen(shape: Sequence[int], p: float, generator: torch.Generator) -> Tensor:
    """A bool tensor of ``shape``, each entry true with probability ``p``. With the same draws, a larger ``p`` chooses more."""
    n = math.prod(shape)
    if p == 0.0:
        return torch.zeros(*shape, dtype=torch.bool)
    # 32 random bits are twice as fast as torch.rand
    bits = torch.empty((n + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator).view(torch.int32)
    return (bits[:n] <= max(round(p * 2**32) - 1, 0) - 2**31).reshape(*shape)


def unlike_neurons(net: nn.Module) -> str | None:
    """The reason why the mismatch of thresholds is not defined for a neuron of ``net``, or None."""
    for name, node in _nodes(net):
        if type(node) not in LINEAR:
            return f"{name} is a {type(node).__name__}, whose membrane is not linear"
        if node.v_reset not in (None, 0.0):
            return f"{name} is reset to {node.v_reset}, not to 0"
    return None


def add_mismatch(net: nn.Module, sigma: float, generators: Generators) -> None:
    """Give every neuron of ``net``, in place, the threshold V_th·(1 + δ), δ ~ N(0, σ²): its linear current over 1 + δ."""
    for name, node in _nodes(net):
        node.register_forward_pre_hook(partial(_scale_current, sigma, generators(name), {}))


def _scale_current(
    sigma: float, generator: torch.Generator, factors: dict[torch.Size, Tensor], node: nn.Module, args: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    x, *others = args
    shape = x.shape[2 if _steps_apart(node) else 1 :]
    if shape not in factors:
        delta = sigma * torch.randn(shape, generator=generator)
        layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        factors[shape] = (1.0 + delta).clamp_min(LEAST_THRESHOLD).to(x.device)[None].contiguous(memory_format=layout)
    return x / factors[shape], *others


def set_spikes(net: nn.Module, p: float, value: float, generators: Generators) -> None:
    """Set the output of every neuron of ``net`` at each step to ``value`` (0 or 1) with probability ``p``, in place."""
    for name, node in _nodes(net):
        node.register_forward_hook(partial(_set_some, p, value, generators(name)))


def _set_some(
    p: float, value: float, generator: torch.Generator, node: nn.Module, args: tuple[Tensor, ...], s: Tensor
) -> Tensor:
    if s.ndim == 4:  # drawn in the order of channels-last memory, whatever the layout of s
        B, C, H, W = s.shape
        faulty = chosen((B, H, W, C), p, generator).permute(0, 3, 1, 2).to(s.device)
    else:
        faulty = chosen(s.shape, p, generator).to(s.device)
    return s.masked_fill(faulty & (s == 0) if value else faulty, value)


def lose_steps(net: SpikingNetwork, n: int, generator: torch.Generator) -> None:
    """Silence all neurons of ``net`` in ``n`` of its T steps, in place: the same for all neurons and images."""
    kept_T = torch.ones(net.T).index_fill(0, torch.randperm(net.T, generator=generator)[:n], 0.0)
    calls: dict[nn.Module, int] = {}

    def silence(node: nn.Module, args: tuple[Tensor, ...], s: Tensor) -> Tensor:
        if isinstance(node, FoldedSteps):
            kept = kept_T.repeat_interleave(len(s) // net.T)
        elif _steps_apart(node):
            kept = kept_T
        else:
            calls[node] = calls.get(node, -1) + 1
            kept = kept_T[calls[node] % net.T].expand(len(s))
        return s * kept.to(s).reshape(-1, *[1] * (s.ndim - 1))

    for _, node in _nodes(net):
        node.register_forward_hook(silence)
    net.register_forward_pre_hook(lambda *_: calls.clear())


def _nodes(net: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, node) for name, node in net.named_modules() if is_neuron(node)]


def _steps_apart(node: nn.Module) -> bool:
    return takes_all_steps(node) and not isinstance(node, FoldedSteps)
