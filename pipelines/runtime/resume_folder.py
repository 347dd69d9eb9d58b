"""Folders from which an interrupted evolve or train resumes, outside DVC's outputs: .scratch/<stage>/<key>/.

The key is a hash of everything that the stage's result depends on; evolve leaves values out on which no score depends. The
folder of a finished run is kept until the stage next runs: if `dvc` is killed before dvc.lock has the result, it repeats the
stage from there.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gee_core.storage.atomic_files import sha256, write_atomically, writing
from pipelines.project.paths import LOCK, SCRATCH, original_project
from pipelines.project.safe_yaml import parse_yaml
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.progress import console

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder with the code that is running, and its dvc.yaml."""

DONE = "done"
"""File in the folder of a finished run: the MD5 of its result, as dvc.lock records it."""

HELD = "lock"
"""File in a folder, locked by the process that is at work in it."""

VALUES = "values"
"""File in a folder that several runs have: the values, not in its key, of the one that was at work in it last."""


def open_resume_folder(
    stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], root: Path | None = None, extra: str = ""
) -> Path:
    """The folder of the run with this `run_key` below ``root``, by default `project_scratch`; made if it is missing."""
    folder = (root or project_scratch()) / stage / run_key(stage, sections, inputs, extra)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_key(stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], extra: str = "") -> str:
    """A hash of ``sections`` of params.yaml, the files ``inputs``, ``extra`` and the code that dvc.yaml lists for ``stage``."""
    digest = hashlib.sha256(extra.encode())
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    for path in [*inputs, *code_files(stage)]:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:16]


def project_scratch() -> Path:
    """The folder .scratch of the project: this one, or in a copy for a DVC experiment that of the original."""
    here = Path.cwd()
    original = original_project(here)
    return SCRATCH if original == here else original / SCRATCH


def code_files(stage: str) -> list[Path]:
    """The Python files among the `deps` of ``stage`` in dvc.yaml."""
    deps = _stages((CHECKOUT / "dvc.yaml").read_text(encoding="utf-8"))[stage]["deps"]
    listed = [CHECKOUT / dep for dep in deps if dep.startswith(("gee_core/", "pipelines/"))]
    return [file for path in listed for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


@functools.cache
def _stages(text: str) -> dict[str, dict[str, Any]]:
    """Those of a dvc.yaml with this ``text``, whose reading takes a tenth of a second."""
    return parse_yaml(text)["stages"]


@contextmanager
def at_work_in(folder: Path, values: str = "") -> Iterator[None]:
    """Hold ``folder``, that of this run, inside; waits for a process that holds it, such as an experiment with the same stage.

    Other finished runs of the stage are deleted first. If dvc.lock has the result of this run, DVC wants it recomputed, and
    ``folder`` is emptied. A run with other ``values``, which the key leaves out, begins with what the last run left.
    """
    with file_lock(folder / HELD, wait=False) as free:
        if not free:
            what = "a run that shares its scores" if values else "the same run"
            console.print(f"{folder}: another process is at work on {what}; waiting for it", soft_wrap=True)
    with file_lock(folder / HELD):
        for other in {done.parent for done in folder.parent.glob(f"*/{DONE}")} - {folder}:
            with file_lock(other / HELD, wait=False) as free:
                if free:
                    delete_folder(other)
        note = folder / VALUES
        if values != (note.read_text(encoding="utf-8") if note.is_file() else ""):
            (folder / DONE).unlink(missing_ok=True)
        elif is_recorded(folder, LOCK):
            for path in set(folder.iterdir()) - {folder / HELD}:
                delete_folder(path) if path.is_dir() else path.unlink()
        if values:
            write_atomically(note, values)
        yield


def finish_run(folder: Path, result: Path) -> None:
    """Mark the run of ``folder`` as finished; ``result`` is the last file that it wrote."""
    write_atomically(folder / DONE, hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest())


def is_recorded(folder: Path, lock: Path) -> bool:
    """Whether the run of ``folder`` is finished and ``lock``, a dvc.lock, has its result."""
    return (folder / DONE).is_file() and lock.is_file() and (folder / DONE).read_text() in lock.read_text(encoding="utf-8")


def delete_folder(folder: Path) -> None:
    """Delete ``folder`` and everything in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
