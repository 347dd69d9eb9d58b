"""Makes MLflow equal to the run folders: `python -m pipelines.tracking.publish PROCESS`.

A stage starts this program where it is not at work. The program passes over all folders every second, until the process that
runs the pipeline is gone and no run is at work. A lock lets one of them write at a time. `gee track replay` is one pass.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically
from pipelines.project.paths import find_project, original_project
from pipelines.runtime.process_tree import is_gone
from pipelines.runtime.redact import URI, bare
from pipelines.runtime.run_files import (
    SENT,
    Record,
    Sent,
    all_records,
    read_record,
    read_sent,
    record_digest,
    waiting_folders,
)
from pipelines.runtime.run_folder import RunFolder, runs_root
from pipelines.tracking import mlflow_client
from pipelines.tracking.mlflow_client import Client, is_refusal, reason, tracking_uri
from pipelines.tracking.publication import Publication

log = logging.getLogger("pipelines.tracking")

COMMAND = [sys.executable, "-m", "pipelines.tracking.publish"]

INTERVAL = 1.0
"""Seconds between two passes."""

LIMIT, LIMIT_OF_KILLED, RETRY = 60.0, 5.0, 2.0
"""Seconds that the end of a run, or of one that was stopped, gives a server that answers; and one that does not."""

PATIENCE, PATIENCE_OF_REPLAY = 2.0, 30.0
"""Seconds in which the lock is tried, which `start` holds for a moment, and a publisher until it has ended."""


class Publisher:
    """Publishes the folders below ``root`` to the store of this environment."""

    def __init__(self, root: Path):
        self.uri = tracking_uri()
        self.store = bare(self.uri)
        self._root = root
        self._client: Client | None = None
        self._publications: dict[Path, Publication] = {}

    def hindrance(self, record: Record, folder: Path) -> str:
        """Why ``folder`` is not for this store and machine; empty if it is."""
        host = record.process.rsplit("/", 2)[0]
        if record.store != self.store:
            return f"it is for {record.store}: set {URI} to that, or delete {folder}"
        if host != socket.gethostname() and record.status is None:
            return f"its process is on {host}: replay it there, or delete {folder}"
        return ""

    def update(self) -> dict[Path, str]:
        """Pass over all folders, the oldest first; why some are hindered. A server that is away ends the pass."""
        hindrances, away = dict[Path, str](), ""
        for folder, record in waiting_folders(self._root).items():
            hindrance = self.hindrance(record, folder) or away
            if not hindrance:
                try:
                    self._publish(folder, record.has_ended)
                except Exception as error:
                    if not folder.is_dir():  # its stage has moved to another one
                        continue
                    hindrance, self._client = reason(error), None
                    self._publications.pop(folder, None)
                    if not isinstance(error, InputError) and not is_refusal(error):
                        hindrance = away = f"MLflow does not answer: {hindrance}"
            if hindrance != (sent := read_sent(folder)).hindrance:
                if hindrance:
                    log.warning("%s: %s", folder.name, hindrance)
                self._note(folder, sent.model_copy(update={"hindrance": hindrance}))
            if hindrance:
                hindrances[folder] = hindrance
        return hindrances

    def _note(self, folder: Path, sent: Sent) -> None:
        with contextlib.suppress(InputError):  # no space
            if folder.is_dir():
                write_atomically(folder / SENT, sent.model_dump_json())

    def _publish(self, folder: Path, has_ended: bool) -> None:
        """Publish a folder. The run of a killed process ends here."""
        digest = record_digest(folder)
        record = read_record(folder)  # after it was seen to have ended, so that all of it is there
        if record is None:
            return
        publication = self._publications.get(folder)
        if publication is None or (publication.record.entry, publication.record.process) != (record.entry, record.process):
            self._client = self._client or mlflow_client.connect(self.uri)
            publication = self._publications[folder] = Publication(self._client, self.uri, folder, record)
            self._note(folder, Sent(page=publication.page))
        publication.update(record, has_ended)
        if has_ended:
            self._note(folder, Sent(digest=digest, page=publication.page, models=publication.models))
            del self._publications[folder]


@contextlib.contextmanager
def alone(root: Path, patience: float) -> Iterator[None]:
    """Be the one publisher of ``root`` inside; InputError while another is at work for ``patience`` seconds."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / "publish.lock", timeout=patience):
            yield
    except Timeout:
        remedy = "wait for its end; `gee status` counts the rest"
        raise InputError(f"{root}: another process is writing to MLflow", remedy) from None


def start(owner: str) -> None:
    """Start a publisher that works until the process ``owner`` is gone, unless one is at work. It outlives what started it."""
    root = runs_root()
    try:
        with FileLock(root / "publish.lock", timeout=0):
            pass
    except (Timeout, OSError):
        return
    code, project = Path(__file__).resolve().parents[2], original_project(find_project())
    path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.suppress(OSError), (root / "publish.log").open("ab") as output:
        shell = ["/bin/sh", "-c", '"$@" &', "sh", *COMMAND, owner]  # whose child is nobody's: no signal for a stage reaches it
        env, nothing = os.environ | {"PYTHONPATH": path}, subprocess.DEVNULL
        subprocess.run(shell, cwd=project, env=env, stdin=nothing, stdout=output, stderr=output, start_new_session=True)


def wait(run: RunFolder | None) -> tuple[str | None, list[str]]:
    """Wait until MLflow has the ``run`` of an execution or a study, and those below it; a warning says what is left.

    Returns the address of its page, None while MLflow does not have it, and what became of the models of its stages. Without
    a ``run`` it waits for all that have ended.
    """
    root, begin, why, store = runs_root(), time.monotonic(), "", bare(tracking_uri())
    execution = run.record.execution if run else ""
    limit = LIMIT_OF_KILLED if run and run.record.status == "KILLED" else LIMIT

    def left() -> list[Path]:
        found = {folder: record for folder, record in waiting_folders(root).items() if record.has_ended}
        return [f for f, r in found.items() if (r.execution == execution if run else r.store == store)]

    while (waiting := left()) and time.monotonic() - begin < (RETRY if why else limit):
        time.sleep(min(0.1, limit))
        why = next((said for folder in waiting if (said := read_sent(folder).hindrance)), "")
    if waiting:
        warning = "MLflow: %d runs are not written yet (%s); they wait in %s: the next run writes them, or `gee track replay`"
        log.warning(warning, len(waiting), why or "it is slow", root)
    if run is None:
        return None, []
    of_run = [folder for folder, record in all_records(root).items() if record.execution == execution]
    models = [model for folder in of_run for model in read_sent(folder).models]
    return (None if run.path in waiting else read_sent(run.path).page or None), models


def main() -> None:
    os.nice(10)  # stages come first: loading mlflow takes seconds of a core
    root, owner = runs_root(), sys.argv[1]
    with contextlib.suppress(InputError), alone(root, PATIENCE):
        publisher = Publisher(root)
        while not is_gone(owner) or any(
            not record.has_ended and not publisher.hindrance(record, folder) for folder, record in all_records(root).items()
        ):
            publisher.update()
            time.sleep(INTERVAL)
        publisher.update()


if __name__ == "__main__":
    main()
