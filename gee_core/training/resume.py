"""Training runs that can be stopped at any moment: saves their states in a folder and restores the newest one.

States are files, in series of increasing numbers. The two newest are kept, so that the older one can be resumed from if a power
loss or the disk damages the newer one.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gee_core.checkpoint import load_tensors, save_tensors
from gee_core.compute import Compute
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from gee_core.settings import SAVE_SECONDS
from gee_core.storage.atomic_files import remove_state, write_atomically
from gee_core.training.loop import MidEpochState
from gee_core.training.processes import from_all

log = logging.getLogger(__name__)

Rows = list[dict[str, float]]
"""One record per epoch."""

NUMBER_FORMAT = "number_format"
"""File in a folder from which work is resumed: the number format in which the work began."""


def adopt_format(compute: Compute, folder: Path) -> Compute:
    """``compute`` in the number format in which the work in ``folder`` began. It begins in its own."""
    note = folder / NUMBER_FORMAT
    if not note.is_file():
        write_atomically(note, compute.number_format)
    return replace(compute, dtype=getattr(torch, note.read_text(encoding="utf-8")))


@dataclass
class Resumable:
    """Saves and restores a run of ``net`` and ``optimizer``, ``n_steps`` an epoch, in ``folder`` (None: not) as ``series``."""

    folder: Path | None
    series: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    n_steps: int
    save_seconds: float = SAVE_SECONDS
    rank: Rank = ALONE

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def keep(self, epochs: int, rows: Rows, mid_epoch: MidEpochState | None = None) -> None:
        """Save the state after ``epochs`` whole epochs, whose records are ``rows``, and a part of the next one."""
        if self.folder is None or self.rank.number:
            return
        tensors = training_tensors(self.net, self.optimizer)
        if mid_epoch is not None:
            tensors |= {"epoch.sums": mid_epoch.sums, "epoch.draws": mid_epoch.draws}
        step = 0 if mid_epoch is None else mid_epoch.step
        meta = {"processes": self.rank.of, "epochs": epochs, "step": step, "rows": rows}
        save_tensors(self.folder / f"{self.series}-{epochs * self.n_steps + step:08}.safetensors", tensors, meta)
        for old in self._states()[:-2]:
            remove_state(old)
        self._last = time.monotonic()

    def periodic_saver(
        self, epochs: int, rows: Rows, tell: Callable[[float], None] = lambda epochs: None
    ) -> Callable[[MidEpochState], None]:
        """The ``on_step`` that saves a state every ``save_seconds``. ``tell`` gets the number of epochs done, such as 2.25."""

        def on_step(mid_epoch: MidEpochState) -> None:
            tell(epochs + mid_epoch.step / self.n_steps)
            if time.monotonic() - self._last >= self.save_seconds:
                self.keep(epochs, rows, mid_epoch)

        return on_step

    def restore(self) -> tuple[int, Rows, MidEpochState | None]:
        """Load the newest state: epochs, rows, mid-epoch. InputError of another process count."""
        if (state := from_all(self._newest(), self.rank)[0]) is None:
            return 0, [], None
        tensors, meta = state
        if (processes := meta["processes"]) != self.rank.of:
            raise InputError(
                f"{self.folder}: {processes} process{'es' if processes > 1 else ''} began this training run, which "
                f"{self.rank.of} cannot continue: their rounding differs",
                f"start {processes}, or delete the folder to begin again",
            )
        restore_training(self.net, self.optimizer, tensors)
        if not meta["step"]:
            return meta["epochs"], meta["rows"], None
        return meta["epochs"], meta["rows"], MidEpochState(meta["step"], tensors["epoch.sums"], tensors["epoch.draws"])

    def _newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and meta of the newest undamaged state, or None. Damaged states are deleted."""
        for path in reversed(self._states()):
            try:
                return load_tensors(path)
            except InputError as error:
                log.warning("%s; resuming from the state before it", error)
                remove_state(path)
        return None

    def _states(self) -> list[Path]:
        """The files of the series, oldest first, without those whose JSON is missing because writing was interrupted."""
        if self.folder is None or self.rank.number:
            return []
        paths = self.folder.glob(f"{self.series}-[0-9]*.safetensors")
        return sorted(path for path in paths if path.with_suffix(".json").is_file())


def training_tensors(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors that training changes, under the names ``net.…`` and ``optimizer.<parameter>.<moment>``."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{moment}": value for moment, value in state.items()}
    return tensors


def restore_training(net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of ``training_tensors`` back into a network and optimiser that were built the same way."""
    net.load_state_dict({name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    # Files hold tensors densely; the fused step walks memory, so moments need the layout of their parameters.
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)
