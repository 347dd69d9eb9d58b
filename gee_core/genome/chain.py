"""The convolutions of a network that can be encoded, and why the others cannot."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gee_core.genome.copying import as_written, copy_module, running_on
from gee_core.seeding import private_torch_rng

NAMES_SHOWN = 3
"""Names that a message lists for each reason."""


def conv_chain(net: nn.Module, example: Tensor) -> list[nn.Conv2d]:
    """The convolutions of ``net`` that can be encoded, in order of first execution on ``example``.

    These are the ungrouped 2-d convolutions with a kernel larger than 1x1. ``left_out`` says what becomes of the others. The
    first is the stem, which keeps its weight. A copy of ``net`` runs, its hooks included.

    Args:
        net: any network. It is not changed.
        example: an input that ``net`` accepts. Its values do not matter.

    Returns:
        The convolutions, the stem first.

    Raises:
        TypeError: ``net`` is no network, or ``example`` no tensor.
        InputError: ``net`` cannot be copied, or raises on ``example``.

    Examples:
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 4, 3))
        >>> [conv.out_channels for conv in gee_core.conv_chain(net, torch.zeros(1, 3, 8, 8))]
        [8, 4]
    """
    return explore_chain(net, example)[0]


def left_out(net: nn.Module, example: Tensor) -> dict[str, str]:
    """The convolutions of ``net`` that ``conv_chain`` leaves out, by name, and why.

    They keep their weights when the others are encoded. Reasons are ``grouped``, ``of kernel 1x1``, ``1-d``, ``3-d``,
    ``transposed`` and ``never executed`` (on ``example``).

    Args:
        net: any network. It is not changed.
        example: an input that ``net`` accepts. Its values do not matter.

    Returns:
        The reason by name.

    Raises:
        TypeError: ``net`` is no network, or ``example`` no tensor.
        InputError: ``net`` cannot be copied, or raises on ``example``.

    Examples:
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 4, 3))
        >>> gee_core.left_out(net, torch.zeros(1, 3, 8, 8))
        {'1': 'of kernel 1x1'}
    """
    return explore_chain(net, example)[1]


def explore_chain(net: nn.Module, example: Tensor) -> tuple[list[nn.Conv2d], dict[str, str]]:
    """``conv_chain`` and ``left_out`` of ``net``."""
    if not isinstance(example, Tensor):
        remedy = "give an input of the network, such as torch.zeros(1, 3, 32, 32); if it takes several, pass encode its convs"
        raise TypeError(f"example must be a torch tensor, got {type(example).__name__}: {remedy}")
    probe = copy_module(net).eval()  # so that stateful neurons of ``net`` keep their charge
    convs = {name: module for name, module in probe.named_modules() if isinstance(module, _ConvNd)}
    executed: dict[str, None] = {}
    for name, conv in convs.items():
        conv.register_forward_pre_hook(lambda conv, args, name=name: executed.setdefault(name))
    running = running_on(example, "an example", "give an input that it takes; if it takes several, pass encode its convs")
    with running, torch.no_grad(), private_torch_rng(0, example.device), as_written(net):  # an encoder of images may draw
        probe(example)
    reasons = {name: _reason(conv) or ("" if name in executed else "never executed") for name, conv in convs.items()}
    chain = [cast(nn.Conv2d, net.get_submodule(name)) for name in executed if not reasons[name]]
    return chain, {name: why for name, why in reasons.items() if why}


def _reason(conv: _ConvNd) -> str:
    """Why ``conv`` cannot be encoded, or an empty text."""
    if conv.transposed:
        return "transposed"
    if not isinstance(conv, nn.Conv2d):
        return f"{len(conv.kernel_size)}-d"
    if conv.groups != 1:
        return "grouped"
    return "of kernel 1x1" if max(conv.kernel_size) == 1 else ""


def list_reasons(left_out: dict[str, str]) -> str:
    """``left_out`` in one line, such as ``17 grouped (conv1, conv2, conv3, …), 2 of kernel 1x1 (skip1, skip2)``."""
    names = defaultdict(list)
    for name, why in left_out.items():
        names[why].append(name)
    more = {why: ", …" if len(those) > NAMES_SHOWN else "" for why, those in names.items()}
    return ", ".join(f"{len(those)} {why} ({', '.join(those[:NAMES_SHOWN])}{more[why]})" for why, those in names.items())


def check_chain(net: nn.Module, convs: Sequence[nn.Conv2d], others: dict[str, str]) -> None:
    """Raise ValueError where ``convs`` of ``net`` cannot be encoded. ``others`` are those that were left out, and why."""
    names = {module: name for name, module in net.named_modules()}
    owners: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    aside = f"; left out: {list_reasons(others)}" if others else ""
    if len(convs) < 2:
        got = f"{len(convs)}{''.join(f' ({names[conv]})' for conv in convs if conv in names)}"
        raise ValueError(f"a chain needs the stem and at least one more convolution, got {got}{aside}")
    for position, conv in enumerate(convs):
        if not isinstance(conv, nn.Conv2d) or conv.groups != 1:
            raise ValueError(f"{names.get(conv, 'a module')} is {conv}: only ungrouped Conv2d's can be encoded")
        if conv not in names or conv in convs[:position]:
            problem = f"{names[conv]} is in the chain twice" if conv in names else f"{conv} is not part of the network"
            raise ValueError(f"{problem}: give convolutions of the network, each once")
        if id(conv.weight) not in owners:
            remedy = "decode the network if it is encoded already, else make it one (remove_parametrizations, prune.remove, …)"
            raise ValueError(f"the weight of module {names[conv]!r} is no parameter: {remedy}")
        if len(shared := owners[id(conv.weight)]) > 1:
            raise ValueError(f"{' and '.join(shared)} are one tensor and cannot be encoded: pass the others as convs")
    if hasattr(net, "genome"):
        raise ValueError("the network has a `genome` already: one chain per network; decode it first, or rename yours")
    for previous, conv in itertools.pairwise(convs):
        if conv.in_channels != previous.out_channels:
            raise ValueError(
                f"the chain breaks at {names[conv]!r}: it takes {conv.in_channels} channels, "
                f"{names[previous]!r} before it puts out {previous.out_channels}{aside}"
            )
        if conv.kernel_size != convs[1].kernel_size:
            raise ValueError(
                f"module {names[conv]!r} has kernel {conv.kernel_size}, {names[convs[1]]!r} has {convs[1].kernel_size}: "
                "a chain shares one kernel size, since each encoding serves two layers"
            )


def genes_within(net: nn.Module, chain: Sequence[nn.Conv2d], ratio: float) -> int:
    """The greatest g with which ``net``, encoded along ``chain``, has at most ``ratio`` of its parameters, else ValueError."""
    total = sum(parameter.numel() for parameter in net.parameters())
    kept = total - sum(conv.weight.numel() for conv in chain[1:])
    per_gene = math.prod(chain[1].kernel_size) * sum(conv.out_channels for conv in chain)
    most = int((math.sqrt(per_gene**2 + 4 * max(0.0, ratio * total - kept)) - per_gene) / 2)  # g² + g·K·Σ C_l ≤ what is left
    if most < 1:
        least = (kept + per_gene + 1) / total
        raise ValueError(f"ratio = {ratio}: with a single gene the network keeps {least:.3f} of its parameters: take more")
    return most
