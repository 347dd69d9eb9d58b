"""Stores on disk what a tracker is going to write to MLflow: one folder in .scratch/tracking per tracker.

entries.jsonl    the entries in order
written.jsonl    which entries MLflow has or refused, and the ids of the runs that were made for them
files/           copies of artifacts until they are uploaded
"""

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from gee_core.errors import InputError
from pipelines.project.paths import SCRATCH, find_project, original_project
from pipelines.runtime import journal
from pipelines.runtime.file_lock import file_lock
from pipelines.tracking.redact import redacted

DELIVERER_ID = "deliverer"
"""Among an outbox's ids: the `process_key` of the process of a later `gee run` that writes what was left of it."""

COPIED = 1_000_000
"""Files up to this number of bytes are copied. Larger ones are checkpoints and models, never changed in place: linked."""


def outbox_root() -> Path:
    """The folder of this project's outboxes, also when called in one of DVC's temporary copies."""
    return original_project(find_project()) / SCRATCH / "tracking"


class Outbox:
    """The entries of one tracker."""

    def __init__(self, folder: Path):
        """Open the outbox in ``folder``, which need not exist yet."""
        self.folder = folder
        self.written: set[int] = set()
        self.refused: dict[int, str] = {}
        self.ids: dict[str, str] = {}
        self._lock = threading.Lock()
        self._next = max((entry["n"] for entry in self.entries()), default=-1) + 1
        for note in journal.read(folder / "written.jsonl"):
            self._take(note)

    @classmethod
    def new(cls, root: Path, label: str) -> "Outbox":
        """A new outbox that no other process or stage uses."""
        return cls(root / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}-{uuid.uuid4().hex[:8]}")

    @property
    def name(self) -> str:
        """Its unique name."""
        return self.folder.name

    def entry(self, kind: str, **values) -> dict:
        """The next entry: ``values`` (JSON) without secrets, its number, its kind and the time in ms."""
        with self._lock:
            n, self._next = self._next, self._next + 1
        return {"n": n, "kind": kind, "time": int(time.time() * 1000), **redacted(values)}

    def append(self, entry: dict) -> None:
        """Write ``entry`` to disk. Only the first and the last entry are flushed, so that they survive a power loss at once.

        Raises:
            InputError: it cannot be written to disk.
        """
        journal.append(self.folder / "entries.jsonl", entry, durable=entry["kind"] in ("open", "close"))

    def entries(self) -> list[dict]:
        """All entries, in order."""
        return journal.read(self.folder / "entries.jsonl")

    def close_killed(self) -> dict:
        """Append the closing entry that a killed tracker could not write, with the time of its last one; returns it.

        Raises:
            InputError: it cannot be written to disk.
        """
        entries = self.entries()
        n = max(entry["n"] for entry in entries) + 1
        end = {"n": n, "kind": "close", "time": entries[-1]["time"], "status": "KILLED", "files": []}
        self.append(end)
        return end

    def keep(self, path: Path) -> str:
        """Copy or link ``path``, so that later changes of it do not matter; returns the copy's path in the folder.

        Raises:
            OSError: it cannot be read, or there is no space for a copy.
        """
        kept = self.folder / "files" / uuid.uuid4().hex[:8] / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size > COPIED:
            with contextlib.suppress(OSError):  # another file system
                os.link(path, kept)
        if not kept.exists():
            shutil.copyfile(path, kept)
        return str(kept.relative_to(self.folder))

    def note_written(self, entry: dict) -> None:
        """Note that MLflow has ``entry``, and delete its copies of files."""
        self._note({"n": entry["n"]})
        kept = (self.folder / "files").resolve()
        for file in entry.get("files", []):
            folder = (self.folder / file).resolve().parent
            if folder.parent == kept:  # without space for a copy, it is the user's own file
                shutil.rmtree(folder, ignore_errors=True)

    def note_refused(self, entry: dict, reason: str) -> None:
        """Note that MLflow refused ``entry``."""
        self._note({"n": entry["n"], "refused": reason})

    def note_id(self, key: str, value: str) -> None:
        """Note the id of the run that was made in MLflow for ``key``."""
        self._note({"key": key, "id": value})

    def _note(self, note: dict) -> None:
        with self._lock:
            self._take(note)
            if self.folder.is_dir():
                with contextlib.suppress(InputError):  # no space: the entry is written to MLflow again, which changes nothing
                    journal.append(self.folder / "written.jsonl", note, durable=False)

    def _take(self, note: dict) -> None:
        if "key" in note:
            self.ids[note["key"]] = note["id"]
        elif "refused" in note:
            self.refused[note["n"]] = note["refused"]
        else:
            self.written.add(note["n"])
            self.refused.pop(note["n"], None)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time(root: Path, name: str, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``name`` of ``root`` inside, as `file_lock` does. If ``root`` is not writable, yields True without it."""
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(file_lock(root / f"{name}.lock", wait))
        except (InputError, OSError):
            held = True
        yield held
