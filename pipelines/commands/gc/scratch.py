"""Leftovers of runs: those of stages, what the cells of studies shared, and copies of the project that DVC worked in."""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipelines.commands.gc.leftover import Leftover, newest_change, tree_size
from pipelines.project.paths import COPIES, EXPERIMENTS, LOCK, SCRATCH, STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD, is_recorded
from pipelines.tracking.mlflow_client import MAKING

STAGES = ("evolve", "train")

MIN_AGE = 3600
"""Seconds. Files written more recently may be in use, whatever number of days was asked for."""

REMOVING = SCRATCH / "removing"
"""Folders are moved here before they are deleted, so that no process finds half of one."""


def scratch_leftovers(project: Path, days: float) -> list[Leftover]:
    """Folders of stages whose results DVC has, and all folders that were not written to for ``days`` days.

    None that was written to within MIN_AGE is among them, and those that have come into use since are not removed.
    """
    now = time.time()
    recent = now - MIN_AGE
    before = min(now - days * 86400, recent)
    complete, old = [], []
    for folder in _folders(project, (SCRATCH / stage for stage in STAGES)):
        changed = newest_change(folder)
        if changed < recent and is_recorded(folder, project / LOCK):
            complete.append(folder)
        elif changed < before:
            old.append(folder)
    steps = [
        folder
        for folder in _folders(project, (STUDY_STEPS / step for step in ("prepare", *STAGES)))
        if newest_change(folder) < before and not _is_locked(folder / HELD)
    ]
    experiments = [folder for folder in _folders(project, [EXPERIMENTS]) if newest_change(folder) < before]
    copies = [
        folder
        for folder in _folders(project, [COPIES, COPIES / "standalone"])
        if folder.name.startswith("tmp") and newest_change(folder) < before
    ]
    unfinished = [folder for folder in _folders(project, [MAKING]) if newest_change(folder) < recent]
    interrupted = list(_folders(project, [REMOVING]))
    found = [
        ("runs of stages, finished", SCRATCH, complete),
        (f"runs of stages, interrupted, older than {days:g} days", SCRATCH, old),
        (f"steps of studies, older than {days:g} days", STUDY_STEPS, steps),
        (f"reports of experiments, older than {days:g} days", EXPERIMENTS, experiments),
        (f"copies of the project of killed experiments, older than {days:g} days", COPIES, copies),
        ("databases of MLflow, half made", MAKING, unfinished),
        ("left behind by an interrupted `gee gc`", REMOVING, interrupted),
    ]
    return [_leftover(project, what, str(place), folders, now) for what, place, folders in found if folders]


def _folders(project: Path, parents) -> Iterator[Path]:
    for parent in parents:
        if (project / parent).is_dir() and not (project / parent).is_symlink():
            yield from sorted(path for path in (project / parent).iterdir() if path.is_dir() and not path.is_symlink())


def _is_locked(path: Path) -> bool:
    if not path.is_file():
        return False
    with file_lock(path, wait=False) as held:
        return not held


def _leftover(project: Path, what: str, place: str, folders: list[Path], found_at: float) -> Leftover:
    def remove() -> None:
        for folder in folders:
            if newest_change(folder) > found_at or _is_locked(folder / HELD):
                continue
            aside = project / REMOVING / uuid.uuid4().hex
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(aside)
            shutil.rmtree(aside)
        with contextlib.suppress(OSError):  # another `gee gc` is using it
            (project / REMOVING).rmdir()

    return Leftover(what, place, len(folders), sum(map(tree_size, folders)), remove)
