"""Makes MLflow equal to what trackers leave on disk: `python -m pipelines.tracking.publish PROCESS`.

A stage starts this program where it is not at work. The program passes over all folders every second, until the process that
runs the pipeline is gone and no stage is at work. A lock lets one of them write at a time. `gee track replay` is one pass.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically
from pipelines.project.paths import find_project, original_project
from pipelines.runtime.process_tree import is_gone
from pipelines.runtime.redact import URI, bare
from pipelines.tracking import mlflow_client, pipeline_run
from pipelines.tracking.folder import Told, all_told, read_told, tracking_root
from pipelines.tracking.mlflow_client import Client, is_refusal, reason, tracking_uri
from pipelines.tracking.publication import Publication

log = logging.getLogger("pipelines.tracking")

COMMAND = [sys.executable, "-m", "pipelines.tracking.publish"]

SAID = "said.json"
"""File beside the folders: `Said`."""

INTERVAL = 1.0
"""Seconds between two passes."""

LIMIT, LIMIT_OF_KILLED, RETRY = 60.0, 5.0, 2.0
"""Seconds that the end of a run, or of one that was stopped, gives a server that answers; and one that does not."""

PATIENCE, PATIENCE_OF_REPLAY = 2.0, 30.0
"""Seconds in which the lock is tried, which `start` holds for a moment, and a publisher until it has ended."""


class Said(BaseModel):
    """What the publisher at work says to those who wait, by the names of folders."""

    hindrances: dict[str, str] = {}
    """Why MLflow cannot have a folder now."""
    pages: dict[str, str] = {}
    """The addresses of the runs of stages that are at work."""
    done: dict[str, tuple[str, list[str]]] = {}
    """Of an execution or study that MLflow has: the address of its page, and what became of its models."""


class Publisher:
    """Publishes the folders below ``root`` to the store of this environment."""

    def __init__(self, root: Path):
        self.uri = tracking_uri()
        self.store = bare(self.uri)
        self._root, self._said = root, Said(hindrances=read_said(root).hindrances)
        self._client: Client | None = None
        self._publications: dict[Path, Publication] = {}
        self._models = defaultdict[str, list[str]](list)
        """What became of models, by their executions."""

    def is_at_work(self, told: Told) -> bool:
        """Whether more is added to a folder that this publisher can publish."""
        return not told.has_ended() and not self.hindrance(told, Path())

    def hindrance(self, told: Told, folder: Path) -> str:
        """Why ``folder`` is not for this store and machine; empty if it is."""
        host = told.process.rsplit("/", 2)[0]
        if told.store != self.store:
            return f"it is for {told.store}: set {URI} to that, or delete {folder}"
        if host != socket.gethostname() and told.own.status is None:
            return f"its process is on {host}: replay it there, or delete {folder}"
        return ""

    def update(self) -> dict[str, str]:
        """Pass over all folders, the oldest first; why some are hindered. A server that is away ends the pass."""
        hindrances, away = dict[str, str](), ""
        for folder, told in all_told(self._root).items():
            hindrance = self.hindrance(told, folder) or away
            if not hindrance:
                try:
                    self._publish(folder, told.has_ended())
                except Exception as error:
                    hindrance, self._client = reason(error), None
                    self._publications.pop(folder, None)
                    if not isinstance(error, InputError) and not is_refusal(error):
                        hindrance = away = f"MLflow does not answer: {hindrance}"
                    if hindrance != self._said.hindrances.get(folder.name):
                        log.warning("%s: %s", folder.name, hindrance)
            if hindrance:
                hindrances[folder.name] = hindrance
        if hindrances != self._said.hindrances:
            self._say(hindrances=hindrances)
        return hindrances

    def _say(self, **values: object) -> None:
        self._said = self._said.model_copy(update=values)
        with contextlib.suppress(InputError):  # no space
            write_atomically(self._root / SAID, self._said.model_dump_json())

    def _publish(self, folder: Path, has_ended: bool) -> None:
        """Publish a folder, and delete it once it has ended. The run of a killed process ends here."""
        told = read_told(folder)  # after it was seen to have ended, so that all of it is there
        if told is None:
            return
        if folder not in self._publications:
            self._client = self._client or mlflow_client.connect(self.uri)
            self._publications[folder] = Publication(self._client, self.uri, folder, told)
            self._say(pages=self._said.pages | {folder.name: self._publications[folder].page})
        publication = self._publications[folder]
        status = told.own.status or ("KILLED" if has_ended else None)
        publication.update(told, status)
        if status:
            self._models[told.execution] += publication.models
            if not told.stage:  # whose tracker tells people
                self._say(done=self._said.done | {folder.name: (publication.address, self._models.pop(told.execution))})
            shutil.rmtree(removing := self._root / "removing", ignore_errors=True)
            folder.rename(removing)  # so that a kill leaves no half of it
            shutil.rmtree(removing, ignore_errors=True)

    def end_abandoned_runs(self) -> None:
        """`pipeline_run.end_abandoned_runs` of the experiments; no stage is left that could tell of an error."""
        for experiment_id in {publication.experiment_id for publication in self._publications.values()}:
            with contextlib.suppress(Exception):
                pipeline_run.end_abandoned_runs(self._client or mlflow_client.connect(self.uri), experiment_id)


@contextlib.contextmanager
def alone(root: Path, patience: float) -> Iterator[None]:
    """Be the one publisher of ``root`` inside; InputError while another is at work for ``patience`` seconds."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / "publish.lock", timeout=patience):
            yield
    except Timeout:
        remedy = "wait for its end; `gee track status` lists the rest"
        raise InputError(f"{root}: another process is writing to MLflow", remedy) from None


def start(root: Path, owner: str) -> None:
    """Start a publisher that works until the process ``owner`` is gone, unless one is at work. It outlives what started it."""
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


def wait(folder: Path, told: Told) -> tuple[str | None, list[str]]:
    """Wait until MLflow has the run of an execution or a study, and those below it; a warning says what is left.

    Returns the address of its page, None while MLflow does not have it, and what became of the models of its stages.
    """
    root, begin, why = folder.parent, time.monotonic(), ""
    left = [each for each, other in all_told(root).items() if other.execution == told.execution]
    limit = LIMIT_OF_KILLED if told.own.status == "KILLED" else LIMIT
    while (left := [each for each in left if each.is_dir()]) and time.monotonic() - begin < (RETRY if why else limit):
        time.sleep(min(0.1, limit))
        why = next((said for each in left if (said := read_said(root).hindrances.get(each.name))), "")
    if left:
        warning = "MLflow: %d runs are not written yet (%s); they wait in %s: the next run writes them, or `gee track replay`"
        log.warning(warning, len(left), why or "it is slow", root)
    return read_said(root).done.get(folder.name, (None, []))


def read_said(root: Path) -> Said:
    """What the last publisher of ``root`` has said."""
    with contextlib.suppress(OSError, ValidationError):
        return Said.model_validate_json((root / SAID).read_bytes())
    return Said()


def main() -> None:
    os.nice(10)  # stages come first: loading mlflow takes seconds of a core
    root, owner = tracking_root(), sys.argv[1]
    with contextlib.suppress(InputError), alone(root, PATIENCE):
        publisher = Publisher(root)
        while not is_gone(owner) or any(map(publisher.is_at_work, all_told(root).values())):
            publisher.update()
            time.sleep(INTERVAL)
        publisher.update()
        publisher.end_abandoned_runs()


if __name__ == "__main__":
    main()
