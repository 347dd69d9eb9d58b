"""Writes the outboxes that trackers left behind to MLflow."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gee_core.errors import InputError
from pipelines.runtime.process_tree import is_gone
from pipelines.tracking.delivery import FIRST_PAUSE, reason
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import DELIVERER_ID, Outbox, one_at_a_time
from pipelines.tracking.redact import URI, bare

TRIES = 3
"""Attempts per entry before the server counts as unreachable."""


@dataclass
class Waiting:
    """An outbox with unwritten entries."""

    outbox: Outbox
    opening: dict | None
    """Its first entry; None where it cannot be read."""
    entries: list[dict]
    """Those that MLflow does not have."""
    is_closed: bool
    """Whether its tracker was closed; that of a killed process was not."""
    hindrance: str | None = None
    """Why they cannot be written now."""
    is_away: bool = False
    """Whether the reason is that MLflow does not answer."""
    written: Counter = field(default_factory=Counter)
    """Number of entries of each kind that `replay` wrote."""

    @property
    def title(self) -> str:
        """Its name, as shown to users."""
        return self.opening["stage"] or self.opening["name"] if self.opening else self.outbox.name


def find_waiting(root: Path, everywhere: bool = False, anyway: bool = False) -> list[Waiting]:
    """Every outbox below ``root``, oldest first.

    ``everywhere``: assume that the processes of other machines have ended. ``anyway``: those for another address can be
    written to the present one.
    """
    found = [_look(Outbox(path.parent), everywhere, anyway) for path in root.glob("*/entries.jsonl")]
    return sorted(found, key=lambda waiting: (waiting.opening or {}).get("time", 0))


def count_ready(found: list[Waiting]) -> int:
    """Number of entries that `replay` will write, including the closing entry of killed trackers."""
    return sum(len(waiting.entries) + (not waiting.is_closed) for waiting in found if waiting.hindrance is None)


def replay(
    root: Path, everywhere: bool = False, anyway: bool = False, on_entry: Callable[[], None] = lambda: None
) -> list[Waiting]:
    """Write the entries that wait below ``root`` to MLflow; returns the outboxes with what is left. Empty ones are deleted.

    Outboxes of running processes are skipped. ``everywhere`` and ``anyway`` are those of `find_waiting`. ``on_entry`` is
    called after each entry.

    Raises:
        InputError: another replay is running.
    """
    with one_at_a_time(root, "replay", wait=False) as alone:
        if not alone:
            raise InputError(f"{root}: another `gee track replay` is running", "wait for its end")
        found = find_waiting(root, everywhere, anyway)
        ready = [waiting for waiting in found if waiting.hindrance is None]
        for i, waiting in enumerate(ready):
            if not waiting.is_closed:
                waiting.entries.append(waiting.outbox.close_killed())
            _write(waiting, on_entry)
            if waiting.is_away:
                for later in ready[i + 1 :]:
                    later.is_away, later.hindrance = True, waiting.hindrance
                break
    return found


def _look(outbox: Outbox, everywhere: bool, anyway: bool) -> Waiting:
    entries = outbox.entries()
    opening = entries[0] if entries and entries[0]["kind"] == "open" else None
    left = [entry for entry in entries if entry["n"] not in outbox.written]
    waiting = Waiting(outbox, opening, left, is_closed=bool(entries) and entries[-1]["kind"] == "close")
    if opening is None:
        waiting.hindrance = f"its first entry is damaged, so it cannot be used: delete {outbox.folder}"
    elif opening["store"] != (here := bare(tracking_uri())) and not anyway:
        waiting.hindrance = (
            f"it is for {opening['store']}: set {URI} to that, or `gee track replay --anyway` writes it to {here}"
        )
    elif not is_gone(process := opening["process"]):
        host = process.rsplit("/", 2)[0]
        if host == socket.gethostname():
            waiting.hindrance = "its process is running"
        elif not everywhere:
            waiting.hindrance = f"its process is on {host}: replay it there, or --everywhere if nothing runs there"
    elif (deliverer := outbox.ids.get(DELIVERER_ID) or opening.get("deliverer")) and not is_gone(deliverer) and not everywhere:
        waiting.hindrance = "`gee run` is writing it"
    return waiting


def _write(waiting: Waiting, on_entry: Callable[[], None]) -> None:
    outbox, left = waiting.outbox, []
    writer = MlflowWriter(outbox, waiting.opening, tracking_uri(), fresh=False)
    for i, entry in enumerate(waiting.entries):
        error = _try(writer, entry)
        if error is None:
            outbox.note_written(entry)
            waiting.written[entry["kind"]] += 1
        elif writer.refuses(error):
            outbox.note_refused(entry, reason(error))
            left.append(entry)
        else:
            waiting.is_away = not isinstance(error, InputError)
            waiting.hindrance = f"MLflow does not answer: {reason(error)}" if waiting.is_away else reason(error)
            waiting.entries = left + waiting.entries[i:]
            return
        on_entry()
    waiting.entries = left
    if left:
        waiting.hindrance = f"refused: {outbox.refused[left[0]['n']]}; delete {outbox.folder} to forget it"
    else:
        outbox.remove()


def _try(writer: MlflowWriter, entry: dict) -> Exception | None:
    for attempt in range(TRIES):
        try:
            writer.write(entry)
            return None
        except Exception as error:
            if writer.refuses(error) or isinstance(error, InputError) or attempt == TRIES - 1:
                return error
            time.sleep(FIRST_PAUSE)
    return None
