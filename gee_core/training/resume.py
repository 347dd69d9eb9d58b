"""A training that can be stopped anywhere: its states in a folder, and the way back to the newest of them."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gee_core.training.loop import Partway
from gee_core.training.named_tensors import restore_training, training_tensors
from gee_core.training.saved_states import keep_state, newest_state

SAVE_SECONDS = 240.0
"""Within an epoch, a state is kept at most so often; no more than this, and the step then under way, is ever lost."""


class Resumable:
    """The states of the training of ``net`` by ``optimizer``, in ``folder`` as ``series``; None keeps nothing.

    Args:
        n_steps: of an epoch.
        identity: what tells this training from another under the same name.
        save_seconds: see ``SAVE_SECONDS``.
    """

    def __init__(
        self,
        folder: Path | None,
        series: str,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        n_steps: int,
        identity: dict | None = None,
        save_seconds: float = SAVE_SECONDS,
    ):
        self._folder, self._series, self._net, self._optimizer = folder, series, net, optimizer
        self._n_steps, self._identity, self._save_seconds = n_steps, identity or {}, save_seconds
        self._last = time.monotonic()

    def keep(self, epochs: int, rows: list[dict], partway: Partway | None = None) -> None:
        """Keep the state after ``epochs`` whole ones, which came to ``rows``, and the part of the next.

        Raises:
            InputError: the disk is full, or the folder may not be written to.
        """
        if self._folder is None:
            return
        tensors = training_tensors(self._net, self._optimizer)
        if partway is not None:
            tensors |= {"epoch.sums": partway.sums, "epoch.draws": partway.draws}
        step = 0 if partway is None else partway.step
        meta = {"identity": self._identity, "epochs": epochs, "step": step, "rows": rows}
        keep_state(self._folder, self._series, epochs * self._n_steps + step, tensors, meta)
        self._last = time.monotonic()

    def now_and_then(self, epochs: int, rows: list[dict]) -> Callable[[Partway], None]:
        """For ``train_epoch``: keeps the state in mid-epoch, every ``save_seconds``."""

        def on_step(partway: Partway) -> None:
            if time.monotonic() - self._last >= self._save_seconds:
                self.keep(epochs, rows, partway)

        return on_step

    def restore(self, at_most: int | None = None) -> tuple[int, list[dict], Partway | None]:
        """Bring network and optimiser to the newest state that is whole; its epochs, rows and the part of the next epoch.

        Where there is none they stay as they are: 0 epochs. ``at_most`` leaves states after more epochs aside.
        """
        last = None if at_most is None else at_most * self._n_steps
        found = None if self._folder is None else newest_state(self._folder, self._series, last)
        if found is None or found[1]["identity"] != self._identity:
            return 0, [], None
        tensors, meta = found
        restore_training(self._net, self._optimizer, tensors)
        if not meta["step"]:
            return meta["epochs"], meta["rows"], None
        return meta["epochs"], meta["rows"], Partway(meta["step"], tensors["epoch.sums"], tensors["epoch.draws"])
