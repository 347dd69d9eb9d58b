"""The command `gee gc`: lists files that are no longer needed, and deletes them. Heavy imports wait until it runs."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.filesize import decimal

from pipelines.project.paths import COPIES, LOCK, SCRATCH, STUDY_STEPS, find_project

WORKS = re.compile(r"-m (pipelines\.(?!cli\b)|prefect\.engine)|\b(gee|pipelines\.cli) (study|flow) run\b")
"""In the command line of a process that is at work in the project."""

MLFLOW = "mlflow gc --backend-store-uri sqlite:///mlflow.db --tracking-uri sqlite:///mlflow.db"


def gc(
    days: Annotated[int, typer.Option(min=0, max=36500, help="Days for which files are kept after their last use.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without this option they are only listed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List files that are no longer needed; with --yes, delete them.

    These are finished and abandoned runs of stages, and shared results of studies, in .scratch.
    While a stage, a study or a flow is running, nothing is deleted.
    The commands that clean DVC's cache and MLflow's database are printed.

    gee gc --days 7
    gee gc --days 7 --yes
    """
    from pipelines.orchestration.flow_lock import flow_lock

    project = find_project()
    with flow_lock(project, None) if yes else contextlib.nullcontext():
        working = at_work(psutil.process_iter(), project)
        kinds = {} if working else leftovers(project, days)
        rows: list[dict[str, Any]] = [
            {"what": kind, "how_many": len(paths), "bytes": sum(map(tree_size, paths))} for kind, paths in kinds.items()
        ]
        if yes:
            delete([folder for folders in kinds.values() for folder in folders], project / SCRATCH / "removing")
    if as_json:
        print(json.dumps({"running": working, "leftovers": rows, "deleted": yes and not working}))
        return
    for row in rows:
        print(f"{row['how_many']:>8,}  {decimal(row['bytes']):>8}  {row['what']}")
    if working:
        print(f"{SCRATCH} is kept, because these are running: {'; '.join(working)}")
    elif not rows:
        print("Nothing to delete")
    else:
        print(f"Deleted in {project}" if yes else "Nothing was deleted; `gee gc --yes` with the same options deletes it")
    print(f"DVC's cache: `dvc gc --workspace`\nDeleted runs in MLflow: `{MLFLOW} --older-than {days}d`")


def at_work(processes: Iterable[psutil.Process], project: Path) -> list[str]:
    """The ``processes`` that run a stage, a study, a flow or `dvc` in ``project`` or in DVC's copies of it below .dvc/tmp."""
    from pipelines.runtime.process_tree import is_dvc_run

    lines = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            folder, line = Path(process.cwd()).resolve(), " ".join(process.cmdline())
            inside = folder.is_relative_to(project.resolve())
            if process.pid != os.getpid() and inside and (WORKS.search(line) or is_dvc_run(process)):
                lines.append(f"{process.pid} {line[:100]}")
    return lines


def leftovers(project: Path, days: int) -> dict[str, list[Path]]:
    """By kind, folders of stages whose results DVC has, and folders that were not written to for ``days`` days."""
    from pipelines.runtime.run_files import is_recorded

    recent = time.time() - 3600  # what was written later may be in use, whatever number of days is asked for
    before = min(time.time() - days * 86400, recent)

    def folders(*patterns: str, before: float = before) -> list[Path]:
        paths = (path for pattern in patterns for path in sorted(project.glob(pattern)))
        return [path for path in paths if path.is_dir() and not path.is_symlink() and _is_free(path, before)]

    stages, old = tuple(f"{SCRATCH}/runs/{stage}-*" for stage in ("evolve", "train", "plain")), f"older than {days} days"
    finished = [folder for folder in folders(*stages, before=recent) if is_recorded(folder, project / LOCK)]
    kinds = {
        f"runs of stages in {SCRATCH}, finished": finished,
        f"runs of stages in {SCRATCH}, interrupted, {old}": [path for path in folders(*stages) if path not in finished],
        f"steps of studies in {STUDY_STEPS.parent}, {old}": folders(f"{STUDY_STEPS}-*"),
        f"copies of the project in {COPIES}, {old}": folders(f"{COPIES}/tmp*", f"{COPIES}/standalone/tmp*"),
    }
    return {kind: paths for kind, paths in kinds.items() if paths}


def delete(folders: list[Path], removing: Path) -> None:
    """Delete ``folders``. Each is first moved to ``removing``, so that a kill leaves no half of a folder in its place."""
    shutil.rmtree(removing, ignore_errors=True)  # what a kill left
    for folder in folders:
        folder.replace(removing)
        shutil.rmtree(removing)


def _is_free(folder: Path, before: float) -> bool:
    """Whether nothing at and below ``folder`` was written since ``before``, and no process holds it."""
    from pipelines.runtime.process_tree import file_lock
    from pipelines.runtime.run_files import HELD

    if max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")]) >= before:
        return False
    if not (folder / HELD).is_file():
        return True
    with file_lock(folder / HELD, wait=False) as held:
        return held


def tree_size(path: Path) -> int:
    """Bytes of all files below ``path``. Links are not followed."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
