"""The process that writes to MLflow what the stages of one `gee run` track, while they work: mlflow is loaded once.

Stages find it by an environment variable, write their outboxes to disk, and end without waiting. It ends once its standard
input does, which the kernel closes when `gee run` is gone, however that ended. `gee run` writes there in which status it ends,
and reads the address of the execution's run from the standard output. Where the process was killed itself, stages write to
MLflow as they do under `dvc repro`. What is left then, the next `gee run` writes first, or `gee track replay` before.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gee_core.errors import InputError
from pipelines.project.paths import find_project
from pipelines.runtime.journal import read_on
from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.runtime.settings import Settings
from pipelines.tracking.delivery import Delivery, limit
from pipelines.tracking.mlflow_client import tracking_uri
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import DELIVERER_ID, Outbox, one_at_a_time, outbox_root
from pipelines.tracking.pipeline_run import experiment_name, versions
from pipelines.tracking.replay import find_waiting

log = logging.getLogger("pipelines.tracking")

DELIVERER = "GEE_DELIVERER"
"""Environment variable: the `process_key` of the process that writes what the stages track."""

COMMAND = [sys.executable, "-m", "pipelines.tracking.deliverer"]
"""Starts the process."""

ADDRESS = "http"
"""Begins the line in which the process prints the address of the execution's run."""

INTERVAL = 0.1
"""Seconds between two looks at the outboxes."""

GRACE = 15.0
"""Seconds that stages have to end once `gee run` has ended."""

SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""They end the stages first: what these track last is still written."""


def living_deliverer() -> str | None:
    """The `process_key` of the process that writes what this one tracks; None if this one has to do it."""
    key = os.environ.get(DELIVERER)
    return key if key and not is_gone(key) else None


@dataclass
class Delivered:
    """What is known of the runs of an execution at its end."""

    address: str | None = None
    """The page of the execution's run in MLflow; None where it has none, or MLflow has not answered."""


@contextlib.contextmanager
def delivering() -> Iterator[Delivered]:
    """Run a deliverer for the stages that the body starts, and wait at the end until it has written what they tracked.

    The execution's run ends as the body does: FINISHED, FAILED with an error, KILLED where it is stopped. What is yielded is
    filled at the end.
    """
    delivered, status = Delivered(), "KILLED"
    if Settings.read().tracking == "off":
        yield delivered
        return
    tracking_uri()  # one that cannot be used is refused before anything runs
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the process inherits that
    try:
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ[DELIVERER] = key = process_key(psutil.Process(process.pid))
    try:
        yield delivered
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        del os.environ[DELIVERER]
        try:
            output, _ = process.communicate(status)
            delivered.address = next((line for line in output.splitlines() if line.startswith(ADDRESS)), None)
        except BaseException:
            process.kill()
            raise
        if process.returncode and any(first_entry(path).get("deliverer") == key for path in journals(outbox_root())):
            log.warning("MLflow: the process that writes to it died: `gee track replay` writes what it left")


def journals(root: Path) -> list[Path]:
    """The entries of every outbox below ``root``."""
    return list(root.glob("*/entries.jsonl"))


def first_entry(path: Path) -> dict:
    """The first of an outbox's entries; empty while it is not there."""
    with contextlib.suppress(FileNotFoundError):
        found, _ = read_on(path, 0)
        return found[0] if found else {}
    return {}


class Followed:
    """An outbox whose entries are passed on as they arrive.

    Args:
        path: its entries.
        opening: the first of them.
    """

    def __init__(self, path: Path, opening: dict):
        self.status: str | None = None
        """How its tracker was closed, or None."""
        self.opening = opening
        self._path, self._position = path, 0
        self._writer: MlflowWriter | None = None

    def pass_on(self, delivery: Delivery, uri: str) -> None:
        """Queue its new entries; where its process is gone without a last one, with that of a killed tracker."""
        if self.status:
            return
        is_killed = is_gone(self.opening["process"])
        try:
            self._read(delivery, uri)
            if is_killed and not self.status:
                self._writer.outbox.close_killed()
                self._read(delivery, uri)
        except FileNotFoundError:  # somebody deleted it
            self.status = "KILLED"
        except (InputError, OSError) as error:
            log.warning("tracking: %s", error)
            self.status = "KILLED"

    def address(self) -> str | None:
        """The page of its execution's run in MLflow; None where that is not known."""
        return self._writer.address() if self._writer else None

    def _read(self, delivery: Delivery, uri: str) -> None:
        entries, self._position = read_on(self._path, self._position)
        if entries and self._writer is None:
            self._writer = MlflowWriter(Outbox(self._path.parent), self.opening, uri)
        for entry in entries:
            delivery.put(self._writer, entry)
            if entry["kind"] == "close":
                self.status = entry["status"]


class Deliverer:
    """Writes the outboxes below ``root`` that name the `process_key` ``key``, one after the other as they were opened."""

    def __init__(self, root: Path, key: str):
        self._root, self._key, self._uri = root, key, tracking_uri()
        self._delivery = Delivery(self._uri)
        self._followed: list[Followed] = []
        self._seen: set[Path] = set()
        self.status = "KILLED"
        """In which `gee run` has ended, once ``ended`` of `run` is set; one that is gone without a word was killed."""

    def run(self, ended: threading.Event, grace: float = GRACE) -> str | None:
        """Write until ``ended`` is set and the trackers are closed, at most ``grace`` seconds later; then `Delivery.finish`.

        What earlier runs have left is written first. At the end dvc.lock holds what DVC wrote of the last stage once that was
        closed: it is uploaded again, with params.yaml. Returns the address of the execution's run, if it is there.
        """
        self._take_left()
        while not ended.wait(INTERVAL):
            self.pass_on()
        deadline = time.monotonic() + grace
        while self.pass_on() and time.monotonic() < deadline:
            time.sleep(INTERVAL)
        status = self._followed[-1].status if self._followed else None
        if status:
            self._track_end()
            self.pass_on()
        self._delivery.finish(limit(status or self.status), self._root)
        return next((address for outbox in self._followed if (address := outbox.address())), None)

    def _take_left(self) -> None:
        """Queue what `gee track replay` would write, but for other experiments, which may be deleted, and what was refused."""
        experiment = experiment_name()
        with one_at_a_time(self._root, "replay", wait=False) as alone, contextlib.suppress(InputError, OSError):
            for waiting in find_waiting(self._root) if alone else []:
                outbox, opening = waiting.outbox, waiting.opening
                if waiting.hindrance or outbox.refused or opening["experiment"] != experiment:
                    continue
                end = [] if waiting.is_closed else [outbox.close_killed()]
                outbox.note_id(DELIVERER_ID, self._key)
                writer = MlflowWriter(outbox, opening, self._uri, fresh=False)
                for entry in waiting.entries + end:
                    self._delivery.put(writer, entry)

    def _track_end(self) -> None:
        """Open and close a tracker's outbox for the run of the execution, as a flow does, with the last state of the files.

        It ends as `gee run` does: a stage that was stopped before it opened its tracker has left no word of that.
        """
        outbox, ends = Outbox.new(self._root, "pipeline"), {followed.status for followed in self._followed}
        with contextlib.suppress(InputError, OSError):  # no space: those that the last stage saw remain
            files = [outbox.keep(path) for path in versions(find_project())]
            opening = self._followed[-1].opening | {"level": "pipeline", "stage": None, "process": self._key, "files": files}
            outbox.append(opening | outbox.entry("open"))
            status = next((end for end in ("FAILED", "KILLED") if end in ends), self.status)
            outbox.append(outbox.entry("close", status=status))

    def pass_on(self) -> bool:
        """Queue what is new; returns whether a tracker is at work."""
        new = {path: opening for path in journals(self._root) if path not in self._seen and (opening := first_entry(path))}
        self._seen |= set(new)
        own = [Followed(*found) for found in new.items() if found[1].get("deliverer") == self._key]
        self._followed += sorted(own, key=lambda outbox: outbox.opening["time"])
        for outbox in self._followed:
            outbox.pass_on(self._delivery, self._uri)
        return any(outbox.status is None for outbox in self._followed)


def main() -> None:
    os.nice(10)  # stages come first: loading mlflow takes seconds of a core
    ended, deliverer = threading.Event(), Deliverer(outbox_root(), process_key(psutil.Process()))

    def listen() -> None:
        deliverer.status = sys.stdin.read() or deliverer.status
        ended.set()

    threading.Thread(target=listen, name="stdin", daemon=True).start()
    if address := deliverer.run(ended):
        print(address)
    sys.stdout.flush()
    os._exit(0)  # without waiting for an import of mlflow that nothing needs any more


if __name__ == "__main__":
    main()
