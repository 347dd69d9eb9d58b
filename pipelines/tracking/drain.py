"""The one program that writes to MLflow what trackers have left on disk: `python -m pipelines.tracking.drain`.

A stage starts it where none is at work, and at its end waits for it, but not for a server that is away. It follows outboxes of
running stages, writes all entries in order, the oldest outbox first, and ends where nothing is left, or where MLflow does not
answer once no stage is at work. A lock lets one of them write at a time. A drain that is killed leaves nothing half done: the
next one finds what is in MLflow by its key. `gee track replay` is the same in the foreground, but waits for no running stage.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from gee_core.errors import InputError
from pipelines.project.paths import find_project, original_project
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.tracking import mlflow_client
from pipelines.tracking.entries import Open
from pipelines.tracking.mlflow_client import Client, is_refusal, reason, tracking_uri
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.redact import URI, bare

log = logging.getLogger("pipelines.tracking")

PAUSE = 1.0
"""Seconds between two attempts to reach a server."""

LINGER = 10.0
"""Seconds without work after which a drain ends: the next stage then need not load mlflow again."""

COMMAND = [sys.executable, "-m", "pipelines.tracking.drain"]

INTERVAL = 0.2
"""Seconds between two looks at the outboxes."""

LIMIT, LIMIT_OF_KILLED, RETRY = 60.0, 5.0, 2.0
"""Seconds that the end of a run, or of one that was stopped, gives a server that answers; and one that does not."""

START = 10.0
"""Seconds until a drain that was started is at work, also on a busy machine."""

_started = {"at": -START}


class State(BaseModel):
    """What the drain is doing, in drain.json beside the outboxes."""

    process: str
    """Its `process_key`."""
    trouble: str = ""
    """Why MLflow does not get what waits."""

    def write(self, root: Path) -> None:
        """Write it to disk."""
        with contextlib.suppress(OSError):  # no space
            (root / "drain.json").write_text(self.model_dump_json())

    @classmethod
    def read(cls, root: Path) -> "State | None":
        """That of a living drain of this machine, or None."""
        with contextlib.suppress(OSError, ValidationError):
            state = cls.model_validate_json((root / "drain.json").read_bytes())
            if state.process.startswith(f"{socket.gethostname()}/") and not is_gone(state.process):
                return state
        return None


@dataclass
class Left:
    """An outbox, and what a drain makes of it."""

    outbox: Outbox
    opening: Open
    """Its first entry."""
    hindrance: str = ""
    """Why its entries cannot be written now."""
    written: Counter[str] = field(default_factory=Counter)
    """Number of entries of each kind that were written."""
    writer: MlflowWriter | None = None

    @property
    def title(self) -> str:
        """Its name, as shown to users."""
        return self.opening.stage or self.opening.name


class Drain:
    """Writes the outboxes below ``root`` to the store of this environment."""

    def __init__(self, root: Path):
        self.uri = tracking_uri()
        self.store = bare(self.uri)
        self.on_entry: Callable[[], object] = lambda: None
        """Is called after each entry."""
        self.state = State(process=process_key(psutil.Process()))
        self._root = root
        self._client: Client | None = None
        self._known: dict[Path, Left] = {}

    def find(self) -> list[Left]:
        """Every outbox, oldest first, with what hinders its writing."""
        for path in {path.parent for path in self._root.glob("*/entries.jsonl")}:
            if path not in self._known and (opening := Outbox(path).opening()):
                self._known[path] = Left(Outbox(path), opening)
        left = [found for path, found in self._known.items() if path.is_dir()]
        for found in left:
            store, host, found.hindrance = found.opening.store, found.opening.process.rsplit("/", 2)[0], ""
            if store != self.store:
                found.hindrance = f"it is for {store}: set {URI} to that, or delete {found.outbox.folder}"
            elif host != socket.gethostname() and not found.outbox.is_closed():
                found.hindrance = f"its process is on {host}: replay it there, or delete {found.outbox.folder}"
        return sorted(left, key=lambda left: left.opening.time)

    def run(self, follows: bool = True) -> list[Left]:
        """Write until nothing is left; with ``follows`` until that lasts LINGER seconds, or MLflow is away and no stage works.

        Returns every outbox that was there, and what was written of it.
        """
        active = time.monotonic()
        self.state.write(self._root)
        while True:
            ready = [left for left in self.find() if not left.hindrance]
            are_at_work = [not is_gone(left.opening.process) and not left.outbox.is_closed() for left in ready]
            if self._pass(ready) or (follows and any(are_at_work)):  # in this order: what closes meanwhile is still written
                active = time.monotonic()
            elif not follows or time.monotonic() - active > LINGER:
                break
            time.sleep(PAUSE if self.state.trouble else INTERVAL)
        for writer in [left.writer for left in self._known.values() if left.writer][-1:]:
            with contextlib.suppress(Exception):  # of executions that were killed; no stage is left that could tell of it
                writer.end_abandoned_runs()
        return sorted(self._known.values(), key=lambda left: left.opening.time)

    def _pass(self, ready: list[Left]) -> bool:
        """Write the new entries of each outbox; returns whether there were any. A server that is away ends it."""
        any_written, trouble = False, ""
        for i, left in enumerate(ready):
            try:
                any_written |= self._write(left)
            except Exception as error:
                trouble = left.hindrance = reason(error)
                self._client = left.writer = None
                if isinstance(error, InputError) or is_refusal(error):
                    continue
                for later in ready[i:]:
                    later.hindrance = f"MLflow does not answer: {trouble}"
                break
        if trouble != self.state.trouble:  # it lasts until all that has piled up is written
            log.info("MLflow: %s", trouble or "answers again")
            self.state.trouble = trouble
            self.state.write(self._root)
        return any_written

    def _write(self, left: Left) -> bool:
        """Write the new entries of an outbox, and delete it once it is closed; that of a killed tracker is closed here."""
        outbox, opening = left.outbox, left.opening
        is_killed, is_closed, begin = is_gone(opening.process), outbox.is_closed(), outbox.written()
        position = begin
        for entry, position in outbox.entries(begin):
            if left.writer is None:
                self._client = self._client or mlflow_client.connect(self.uri)
                left.writer = MlflowWriter(self._client, self.uri, outbox, opening)
            try:
                left.writer.write(entry)
                left.written[entry.kind] += 1
            except Exception as error:
                if not left.writer.refuses(error):
                    raise
                log.warning("MLflow refuses an entry of %s, which is left out: %s", left.title, reason(error))
            outbox.delete_copies(entry.files)
            outbox.note(position)
            self.on_entry()
            is_closed = entry.kind == "close"
        if is_closed:
            if left.writer and not opening.stage:  # whose tracker tells people the address
                (self._root / f"{outbox.name}.address").write_text(left.writer.address())
            outbox.remove()
        elif is_killed:
            outbox.close_killed()
        return position > begin or (is_killed and not is_closed)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the drain of ``root`` inside; a drain that lingers is waited for, and one at work is an InputError."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "drain.lock")
    try:
        lock.acquire(timeout=LINGER + 2)
    except Timeout:
        remedy = "wait for its end; `gee track status` lists the rest"
        raise InputError(f"{root}: another process is writing to MLflow", remedy) from None
    with lock:
        yield


def start(root: Path) -> None:
    """Start a drain for the outboxes below ``root``, unless one is at work. It outlives this process and what started that."""
    if State.read(root) or time.monotonic() - _started["at"] < START:
        return
    _started["at"] = time.monotonic()
    code, project = Path(__file__).resolve().parents[2], original_project(find_project())
    path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.suppress(OSError), (root / "drain.log").open("ab") as output:
        shell = ["/bin/sh", "-c", '"$@" &', "sh", *COMMAND]  # whose child is nobody's, so that no signal for a stage reaches it
        env, nothing = os.environ | {"PYTHONPATH": path}, subprocess.DEVNULL
        subprocess.run(shell, cwd=project, env=env, stdin=nothing, stdout=output, stderr=output, start_new_session=True)


def wait(outbox: Outbox, status: str) -> str | None:
    """Wait until ``outbox``, of a run that ends with ``status``, is written; a warning says what is left. Returns its page."""
    root, begin, why = outbox.folder.parent, time.monotonic(), ""
    limit = LIMIT_OF_KILLED if status == "KILLED" else LIMIT
    while outbox.folder.is_dir() and time.monotonic() - begin < (RETRY if why else limit):
        start(root)
        time.sleep(INTERVAL)
        why = state.trouble if (state := State.read(root)) else ""
    if outbox.folder.is_dir():
        left = "MLflow: %d entries are not written yet (%s); they wait in %s: the next run writes them, or `gee track replay`"
        log.warning(left, outbox.waiting(), why or "it is slow", root)
    page = root / f"{outbox.name}.address"
    if not page.is_file():
        return None
    address = page.read_text()
    page.unlink()
    return address


def main() -> None:
    os.nice(10)  # stages come first: loading mlflow takes seconds of a core
    root = outbox_root()
    with file_lock(root / "drain.lock", wait=False) as is_alone:
        if is_alone:
            for path in root.glob("*.address"):  # nobody has asked for them
                path.unlink(missing_ok=True)
            Drain(root).run()


if __name__ == "__main__":
    main()
