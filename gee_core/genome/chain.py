"""Which convolutions of a network can be encoded, and why the others cannot."""

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

SHOWN = 3
"""Names that a message lists for each reason."""


def explore(net: nn.Module, example: Tensor) -> tuple[list[str], dict[str, str]]:
    """(names of the convolutions that can be encoded, in order of first execution, the others by name, each with the reason).

    Args:
        net: a copy of a network, for this alone: it gets hooks, and its neurons are charged.
        example: an input that ``net`` accepts.
    """
    convs = {name: module for name, module in net.named_modules() if isinstance(module, _ConvNd)}
    executed: list[str] = []
    for name, conv in convs.items():
        conv.register_forward_pre_hook(lambda conv, args, name=name: executed.append(name))
    with torch.no_grad():
        net(example)
    reasons = {name: _reason(conv) or ("" if name in executed else "never executed") for name, conv in convs.items()}
    return [name for name in dict.fromkeys(executed) if not reasons[name]], {name: why for name, why in reasons.items() if why}


def _reason(conv: _ConvNd) -> str:
    """Why ``conv`` cannot be encoded; empty if it can."""
    if conv.transposed:
        return "transposed"
    if not isinstance(conv, nn.Conv2d):
        return f"{len(conv.kernel_size)}-d"
    if conv.groups != 1:
        return "grouped"
    return "of kernel 1x1" if max(conv.kernel_size) == 1 else ""


def summary(left_out: dict[str, str]) -> str:
    """``left_out`` in one line, such as ``17 grouped (conv1, conv2, conv3, …), 2 of kernel 1x1 (skip1, skip2)``."""
    names = defaultdict(list)
    for name, why in left_out.items():
        names[why].append(name)
    more = {why: ", …" if len(those) > SHOWN else "" for why, those in names.items()}
    return ", ".join(f"{len(those)} {why} ({', '.join(those[:SHOWN])}{more[why]})" for why, those in names.items())
