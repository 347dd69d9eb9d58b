"""What one tracker has to tell MLflow, on disk before anything else: a folder of .scratch/tracking per tracker.

entries.jsonl    what was tracked, in order; entry n is its n-th line
written.jsonl    which entries MLflow has, which it refused, and the ids of runs and models that were made for them
files/           what artifacts need until they are uploaded, as it was when it was tracked
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
from pipelines.project.paths import SCRATCH, find_project
from pipelines.runtime import journal
from pipelines.runtime.file_lock import file_lock
from pipelines.tracking.pipeline_run import tracking_home
from pipelines.tracking.redact import redacted

ENTRY = "gee.entry"
"""Tag: the outbox and the entry that something in MLflow was made for."""

COPIED = 1_000_000
"""Bytes up to which a file is copied. Larger ones are checkpoints and models, which are replaced and never changed: linked."""


def outbox_root() -> Path:
    """Where the outboxes of this project lie, also those of DVC's temporary copies of it."""
    return tracking_home(find_project()) / SCRATCH / "tracking"


class Outbox:
    """The entries of one tracker."""

    def __init__(self, folder: Path):
        """Open what lies in ``folder``, which need not exist yet."""
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
        """An empty one that no other process or stage shares."""
        return cls(root / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}-{uuid.uuid4().hex[:8]}")

    @property
    def name(self) -> str:
        """What it is called, unlike any other."""
        return self.folder.name

    def entry(self, kind: str, **values) -> dict:
        """The next entry: ``values`` (JSON), with its number, its kind and the time in ms. No secret gets into it."""
        with self._lock:
            n, self._next = self._next, self._next + 1
        return {"n": n, "kind": kind, "time": int(time.time() * 1000), **redacted(values)}

    def append(self, entry: dict) -> None:
        """Write ``entry`` down. How a tracker begins and ends survives a power loss at once, the rest with its end.

        Raises:
            InputError: it cannot be written to disk.
        """
        journal.append(self.folder / "entries.jsonl", entry, durable=entry["kind"] in ("open", "close"))

    def entries(self) -> list[dict]:
        """All entries, in order."""
        return journal.read(self.folder / "entries.jsonl")

    def keep(self, path: Path) -> str:
        """Copy ``path``, or link to it, so that it stays as it is; the copy's place in the folder.

        Raises:
            OSError: it cannot be read, or there is no room for a copy.
        """
        kept = self.folder / "files" / uuid.uuid4().hex[:8] / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size > COPIED:
            with contextlib.suppress(OSError):  # another file system
                os.link(path, kept)
        if not kept.exists():
            shutil.copyfile(path, kept)
        return str(kept.relative_to(self.folder))

    def waiting(self) -> list[dict]:
        """The entries that MLflow does not have."""
        return [entry for entry in self.entries() if entry["n"] not in self.written]

    def note_written(self, entry: dict) -> None:
        """MLflow has ``entry``: its files may go."""
        self._note({"n": entry["n"]})
        kept = (self.folder / "files").resolve()
        for file in entry.get("files", []):
            folder = (self.folder / file).resolve().parent
            if folder.parent == kept:  # where there was no room for a copy, it is the user's own file
                shutil.rmtree(folder, ignore_errors=True)

    def note_refused(self, entry: dict, reason: str) -> None:
        """MLflow answers, and does not take ``entry``."""
        self._note({"n": entry["n"], "refused": reason})

    def note_id(self, key: str, value: str) -> None:
        """Something was made in MLflow for the entry or part of an entry that ``key`` names."""
        self._note({"key": key, "id": value})

    def _note(self, note: dict) -> None:
        with self._lock:
            self._take(note)
            if self.folder.is_dir():
                with contextlib.suppress(InputError):  # no room: it is written to MLflow again, which changes nothing
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
        """Forget all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time(root: Path, name: str, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``name`` of ``root`` inside. Yields whether it is held; in a folder that cannot be written, always True.

    See `file_lock` for ``wait``.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(file_lock(root / f"{name}.lock", wait))
        except (InputError, OSError):
            held = True
        yield held
