"""The state of a training run, network and optimiser, as named tensors. Random draws have no state: see ``seeding``."""

import torch
from torch import Tensor, nn


def training_tensors(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors that training changes, under the names ``net.…`` and ``optimizer.<parameter>.<what>``."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{what}": value for what, value in state.items()}
    return tensors


def restore_training(net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of ``training_tensors`` back into a network and optimiser that were built the same way."""
    net.load_state_dict({name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, what = name.split(".")
            state.setdefault(int(index), {})[what] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    # Files hold tensors densely; the fused step walks memory, so moments need the layout of their parameters.
    for parameter, moments in optimizer.state.items():
        for what, value in moments.items():
            if value.shape == parameter.shape:
                moments[what] = torch.empty_like(parameter).copy_(value)
