"""Training runs that can be stopped at any moment: saves their states in a folder and restores the newest one."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import SAVE_SECONDS
from gee_core.training.loop import MidEpochState
from gee_core.training.processes import from_first
from gee_core.training.saved_states import keep_state, newest_state


class Resumable:
    """Saves and restores a training run of ``net`` and ``optimizer``, in ``folder`` as ``series``; None saves nothing.

    An epoch has ``n_steps``. Of several processes, the first one saves, and all of them restore what it finds.
    """

    def __init__(
        self,
        folder: Path | None,
        series: str,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        n_steps: int,
        save_seconds: float = SAVE_SECONDS,
        rank: Rank = ALONE,
    ):
        self._folder, self._series, self._net, self._optimizer = folder, series, net, optimizer
        self._n_steps, self._save_seconds = n_steps, save_seconds
        self._last, self._rank = time.monotonic(), rank

    def keep(self, epochs: int, rows: list[dict], mid_epoch: MidEpochState | None = None) -> None:
        """Save the state after ``epochs`` whole epochs, whose records are ``rows``, and a part of the next one."""
        if self._folder is None or self._rank.number:
            return
        tensors = training_tensors(self._net, self._optimizer)
        if mid_epoch is not None:
            tensors |= {"epoch.sums": mid_epoch.sums, "epoch.draws": mid_epoch.draws}
        step = 0 if mid_epoch is None else mid_epoch.step
        meta = {"processes": self._rank.of, "epochs": epochs, "step": step, "rows": rows}
        keep_state(self._folder, self._series, epochs * self._n_steps + step, tensors, meta)
        self._last = time.monotonic()

    def periodic_saver(
        self, epochs: int, rows: list[dict], tell: Callable[[float], None] = lambda epochs: None
    ) -> Callable[[MidEpochState], None]:
        """The ``on_step`` that saves a state every ``save_seconds``; ``tell`` gets the number of epochs done, such as 2.25."""

        def on_step(mid_epoch: MidEpochState) -> None:
            tell(epochs + mid_epoch.step / self._n_steps)
            if time.monotonic() - self._last >= self._save_seconds:
                self.keep(epochs, rows, mid_epoch)

        return on_step

    def restore(self, at_most: int | None = None) -> tuple[int, list[dict], MidEpochState | None]:
        """Load the newest undamaged state of at most ``at_most`` epochs; returns its epochs (or 0), rows and mid-epoch state.

        Raises:
            InputError: another number of processes saved it.
        """
        last = None if at_most is None else at_most * self._n_steps
        found = None
        if self._folder is not None and self._rank.number == 0:
            found = newest_state(self._folder, self._series, last)
        found = from_first(found, self._rank)
        if found is None:
            return 0, [], None
        tensors, meta = found
        if (processes := meta["processes"]) != self._rank.of:
            raise InputError(
                f"{self._folder}: {processes} process{'es' if processes > 1 else ''} began this training run, which "
                f"{self._rank.of} cannot continue: their rounding differs",
                f"start {processes}, or delete the folder to begin again",
            )
        restore_training(self._net, self._optimizer, tensors)
        if not meta["step"]:
            return meta["epochs"], meta["rows"], None
        return meta["epochs"], meta["rows"], MidEpochState(meta["step"], tensors["epoch.sums"], tensors["epoch.draws"])


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
