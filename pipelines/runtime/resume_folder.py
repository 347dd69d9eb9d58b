"""Folders from which an interrupted evolve or train resumes, outside DVC's outputs: .scratch/<stage>/<key>/.

The key is a hash of everything that the stage's result depends on, so a resumed run never mixes two configurations. The folder
of a finished run is kept until dvc.lock records its result: if `dvc` is killed before that, it repeats the stage.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from gee_core.storage.atomic_files import sha256, write_atomically, writing
from pipelines.project.paths import LOCK, SCRATCH
from pipelines.project.safe_yaml import read_yaml

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder with the code that is running, and its dvc.yaml."""

DONE = "done"
"""File in the folder of a finished run: the MD5 of its result, as dvc.lock records it."""


def open_resume_folder(
    stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], root: Path = SCRATCH, extra: str = ""
) -> Path:
    """The folder below ``root`` of a run of ``stage``, made if it is missing.

    The result of the run depends on these ``sections`` of params.yaml, on the files ``inputs``, on ``extra``, and on the code
    that dvc.yaml lists for the stage.
    """
    digest = hashlib.sha256(extra.encode())
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    for path in [*inputs, *code_files(stage)]:
        digest.update(sha256(path).encode())
    folder = root / stage / digest.hexdigest()[:16]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def code_files(stage: str) -> list[Path]:
    """The Python files among the `deps` of ``stage`` in dvc.yaml."""
    deps = read_yaml(CHECKOUT / "dvc.yaml")["stages"][stage]["deps"]
    listed = [CHECKOUT / dep for dep in deps if dep.startswith(("gee_core/", "pipelines/"))]
    return [file for path in listed for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def delete_finished_runs(current: Path) -> None:
    """Delete other finished runs of the stage; empty ``current`` if dvc.lock has its result, which is then to be recomputed."""
    recorded = LOCK.read_text(encoding="utf-8", errors="replace") if LOCK.is_file() else ""
    for done in current.parent.glob(f"*/{DONE}"):
        if done.parent != current or done.read_text(encoding="utf-8") in recorded:
            delete_folder(done.parent)
    current.mkdir(exist_ok=True)


def finish_run(folder: Path, result: Path) -> None:
    """Mark the run of ``folder`` as finished; ``result`` is the last file that it wrote."""
    write_atomically(folder / DONE, hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest())


def delete_folder(folder: Path) -> None:
    """Delete ``folder`` and everything in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
