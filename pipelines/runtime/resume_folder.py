"""Where an interrupted stage leaves what it has, outside DVC's outputs: .scratch/<stage>/<key>/.

The key is a hash of everything that the stage's result depends on, so a resume never mixes two configurations: its sections
of params.yaml, its input files and the code itself.

A stage that is complete may still be run again, where its `dvc` is killed before it has taken the result over into dvc.lock.
So its folder stays until then: the repetition finds everything in it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

import gee_core
from gee_core.storage.atomic_files import sha256, write_atomically, writing
from pipelines.project.paths import LOCK, SCRATCH

DONE = "done"
"""File in the folder of a run that is complete: the MD5 of its result, as dvc.lock has it once DVC took it over."""


def scratch_folder(
    stage: str, sections: Iterable[BaseModel], inputs: Iterable[Path], root: Path = SCRATCH, extra: str = ""
) -> Path:
    """The folder below ``root`` for a run of ``stage`` with these sections and input files; made if it is not there.

    ``extra`` is whatever else the result depends on. Folders of runs that are complete go, this one too if DVC knows of
    its result: then the stage is run again because somebody wants it to.
    """
    digest = hashlib.sha256(extra.encode())
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    code = Path(gee_core.__file__).parent
    for path in [*inputs, *sorted(code.rglob("*.py")), Path(__file__).parent.parent / f"{stage}.py"]:
        digest.update(sha256(path).encode())
    folder = root / stage / digest.hexdigest()[:16]
    for done in folder.parent.glob(f"*/{DONE}"):
        if done.parent != folder or done.read_text(encoding="utf-8") in _lock():
            clear_scratch(done.parent)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish_scratch(folder: Path, result: Path) -> None:
    """Note that the run of ``folder`` is complete, ``result`` being the last file that it wrote."""
    write_atomically(folder / DONE, hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest())


def _lock() -> str:
    return LOCK.read_text(encoding="utf-8", errors="replace") if LOCK.is_file() else ""


def clear_scratch(folder: Path) -> None:
    """Remove ``folder`` and all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
