"""The background thread that writes trackers' entries to MLflow, and retries while MLflow does not answer."""

import logging
import threading
import time
from collections import deque
from pathlib import Path

from gee_core.errors import InputError
from pipelines.tracking import mlflow_client
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.redact import redact

log = logging.getLogger("pipelines.tracking")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts to reach a server; doubled each time up to the second value."""

PATIENCE = 5.0
"""Seconds without an answer after which `wait` gives up."""

RETRY = 2.0
"""Seconds that `wait` gives a server that does not answer."""

SHARE = 0.01
"""Share of a tracker's lifetime that `wait` may take if the server is slow or was away; at least RETRY seconds."""

SLOW = 3.0
"""A server that needs more seconds than this for an entry is slow."""

LIMIT = 60.0
"""Seconds that `wait` gives a server that answers."""

UPLOADS = {"artifact", "model"}
"""Kinds of entries that may take long on any server."""


def limit(status: str) -> float:
    """Seconds that `wait` gives a server that answers at the end of a run with this ``status``."""
    return PATIENCE if status == "KILLED" else LIMIT


def reason(error: Exception) -> str:
    """``error`` on one line, without secrets; of what the user can mend, and of a database, its words alone."""
    error = getattr(error.__cause__, "orig", None) or error  # SQLAlchemy wraps these in the statement and its parameters
    text = redact(" ".join(str(error).split()))
    if isinstance(error, InputError):
        return text
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:159] + '…'}"


class Delivery:
    """Writes entries to the store ``uri``, in order; each is retried until MLflow accepts or refuses it.

    An outbox whose last entry is written is deleted, unless MLflow refused one.
    """

    def __init__(self, uri: str):
        self.trouble: str | None = None
        """The last error while MLflow does not answer, else None."""
        self._is_local = mlflow_client.is_local(uri)
        self._queue: deque[tuple[MlflowWriter, dict]] = deque()
        self._changed = threading.Condition()
        self._stopped = self._hurry = self._loaded = self._slow = False
        self._was_away, self._pause_seconds = False, FIRST_PAUSE
        self._began = self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, writer: MlflowWriter, entry: dict) -> None:
        """Queue ``entry`` of the outbox of ``writer``; never blocks."""
        with self._changed:
            self._queue.append((writer, entry))
            self._changed.notify_all()

    def wait(self, limit: float = LIMIT) -> bool:
        """Wait until everything is written, up to ``limit`` seconds, less if MLflow does not answer; returns whether it is."""
        start = time.monotonic()
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._queue and not self._stopped and not self._is_hopeless(start, limit):
                self._changed.wait(0.1)
            return not self._queue

    def _is_hopeless(self, start: float, limit: float) -> bool:
        now = time.monotonic()
        if self.trouble:
            return now - start > min(limit, RETRY)
        if self._was_away or (self._slow and not self._is_local):
            limit = min(limit, max(RETRY, SHARE * (start - self._began)))
        if now - start > limit:
            return True
        if self._is_local or not self._loaded or self._queue[0][1]["kind"] in UPLOADS:
            return False
        return now - max(start, self._answered) > PATIENCE

    def finish(self, limit: float, where: Path) -> None:
        """`wait`, then `stop`; a warning names the entries that are left, ``where`` they lie and why."""
        self.wait(limit)
        if left := self.stop():
            log.warning(
                "MLflow: %d entries are not written yet (%s); they wait in %s: `gee track replay` writes them, "
                "or else the next `gee run`",
                *(left, self.trouble or "it is slow", where),
            )

    def stop(self) -> int:
        """Stop writing; returns the number of unwritten entries. One that is being written may still arrive."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            return len(self._queue)

    def _run(self) -> None:
        while found := self._next():
            writer, entry = found
            outbox = writer.outbox
            try:
                if not self._loaded:
                    mlflow_client.load()
                    self._answered, self._loaded = time.monotonic(), True
                start = time.monotonic()
                writer.write(entry)
            except Exception as error:
                if not writer.refuses(error):
                    self._pause(error, outbox.folder)
                    continue
                outbox.note_refused(entry, reason(error))
                if len(outbox.refused) == 1:
                    log.warning("MLflow refuses an entry: %s; the run continues", reason(error))
            else:
                outbox.note_written(entry)
            if entry["kind"] == "close" and not outbox.refused:
                outbox.remove()
            self._advance(entry, time.monotonic() - start)

    def _next(self) -> tuple[MlflowWriter, dict] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            return None if self._stopped else self._queue[0]

    def _advance(self, entry: dict, seconds: float) -> None:
        with self._changed:
            if self.trouble:
                log.info("MLflow answers again")
            self.trouble, self._answered = None, time.monotonic()
            self._pause_seconds = FIRST_PAUSE
            if entry["kind"] not in UPLOADS:
                self._slow = seconds > SLOW
            self._queue.popleft()
            self._changed.notify_all()

    def _pause(self, error: Exception, folder: Path) -> None:
        with self._changed:
            if not self.trouble:
                log.info("MLflow: %s; entries wait in %s", reason(error), folder)
            self.trouble, self._was_away = reason(error), True
            self._changed.wait_for(lambda: self._stopped or self._hurry, self._pause_seconds)
            self._pause_seconds = FIRST_PAUSE if self._hurry else min(2 * self._pause_seconds, LONGEST_PAUSE)
            self._hurry = False
