"""The background thread that writes a tracker's entries to MLflow, and retries while MLflow does not answer."""

import logging
import threading
import time
from collections import deque

from pipelines.tracking import mlflow_client
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import Outbox
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


def reason(error: Exception) -> str:
    """``error`` on one line, without secrets."""
    text = redact(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:159] + '…'}"


class Delivery:
    """Writes entries in order; each is retried until MLflow accepts or refuses it."""

    def __init__(self, writer: MlflowWriter, outbox: Outbox):
        self.trouble: str | None = None
        """The last error while MLflow does not answer, else None."""
        self._writer, self._outbox = writer, outbox
        self._queue: deque[dict] = deque()
        self._changed = threading.Condition()
        self._stopped = self._hurry = self._loaded = self._slow = False
        self._was_away, self._pause_seconds = False, FIRST_PAUSE
        self._began = self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, entry: dict) -> None:
        """Queue ``entry``; never blocks."""
        with self._changed:
            self._queue.append(entry)
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
        local = mlflow_client.is_local(self._writer.uri)
        if self._was_away or (self._slow and not local):
            limit = min(limit, max(RETRY, SHARE * (start - self._began)))
        if now - start > limit:
            return True
        if local or not self._loaded or self._queue[0]["kind"] in UPLOADS:
            return False
        return now - max(start, self._answered) > PATIENCE

    def stop(self) -> int:
        """Stop writing; returns the number of unwritten entries. One that is being written may still arrive."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            return len(self._queue)

    def _run(self) -> None:
        while entry := self._next():
            try:
                if not self._loaded:
                    mlflow_client.load()
                    self._answered, self._loaded = time.monotonic(), True
                start = time.monotonic()
                self._writer.write(entry)
            except Exception as error:
                if not self._writer.refuses(error):
                    self._pause(error)
                    continue
                self._outbox.note_refused(entry, reason(error))
                if len(self._outbox.refused) == 1:
                    log.warning("MLflow refuses an entry: %s; the run continues", reason(error))
            else:
                self._outbox.note_written(entry)
            self._advance(entry, time.monotonic() - start)

    def _next(self) -> dict | None:
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

    def _pause(self, error: Exception) -> None:
        with self._changed:
            if not self.trouble:
                log.info("MLflow does not answer: %s; entries wait in %s", reason(error), self._outbox.folder)
            self.trouble, self._was_away = reason(error), True
            self._changed.wait_for(lambda: self._stopped or self._hurry, self._pause_seconds)
            self._pause_seconds = FIRST_PAUSE if self._hurry else min(2 * self._pause_seconds, LONGEST_PAUSE)
            self._hurry = False
