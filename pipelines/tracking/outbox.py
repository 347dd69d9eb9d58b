"""What a tracker leaves on disk for MLflow: one folder in .scratch/tracking per tracker.

entries.jsonl    the entries in order
written.json     how many bytes of them are in MLflow
files/           copies of artifacts until they are uploaded
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from pipelines.project.paths import SCRATCH, find_project, original_project
from pipelines.runtime import journal
from pipelines.tracking.entries import PARSE, Close, Entry, Open
from pipelines.tracking.redact import redacted


def outbox_root() -> Path:
    """The folder of this project's outboxes, also when called in one of DVC's temporary copies."""
    return original_project(find_project()) / SCRATCH / "tracking"


class Outbox:
    """The entries of one tracker, in a folder that need not exist yet."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self._entries, self._written = folder / "entries.jsonl", folder / "written.json"

    @classmethod
    def new(cls, root: Path, label: str) -> "Outbox":
        """A new outbox that no other process or stage uses."""
        return cls(root / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}-{uuid.uuid4().hex[:8]}")

    def append(self, entry: Entry) -> None:
        """Write ``entry`` to disk without secrets. Only the first and the last entry survive a power loss at once."""
        journal.append(self._entries, redacted(entry.model_dump(mode="json")), durable=entry.kind in ("open", "close"))

    def entries(self, position: int = 0) -> Iterator[tuple[Entry, int]]:
        """The intact entries from byte ``position`` on, each with the position after it."""
        with contextlib.suppress(FileNotFoundError):  # a drain has deleted it
            for values, end in journal.read_on(self._entries, position):
                with contextlib.suppress(ValidationError):
                    yield PARSE.validate_python(values), end

    def opening(self) -> Open | None:
        """The first entry; None where it is damaged or not there yet."""
        first = next(self.entries(), None)
        return first[0] if first and isinstance(first[0], Open) else None

    def is_closed(self) -> bool:
        """Whether its last entry closes it."""
        with contextlib.suppress(OSError), self._entries.open("rb") as file:
            file.seek(max(0, self._entries.stat().st_size - 4096))
            *_, last, rest = [b"", *file.read().split(b"\n")]
            return not rest and b'"kind": "close"' in last
        return False

    def close_killed(self) -> None:
        """Append the closing entry that a killed tracker could not write, with the time of its last one."""
        *_, (last, _) = self.entries()
        self.append(Close(time=last.time, status="KILLED"))

    def written(self) -> int:
        """Bytes of the entries that MLflow has or refused; 0 where that is not readable: entries may be written twice."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._written.read_bytes())
        return 0

    def note(self, position: int) -> None:
        """Note how far the entries are written."""
        with contextlib.suppress(OSError):  # no space
            self._written.write_text(str(position))

    def waiting(self) -> int:
        """Number of entries that are still to be written."""
        return sum(1 for _ in self.entries(self.written()))

    def keep(self, path: Path) -> str:
        """Copy ``path``, so that later changes of it do not matter; returns the copy's path in the folder."""
        kept = self.folder / "files" / uuid.uuid4().hex[:8] / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        return str(kept.relative_to(self.folder))

    def delete_copies(self, files: list[str]) -> None:
        """Delete ``files``, copies of `keep`, with their folders."""
        for file in files:
            shutil.rmtree((self.folder / file).parent, ignore_errors=True)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
