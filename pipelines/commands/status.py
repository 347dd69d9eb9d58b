"""The commands `gee status` and `gee gc`, which look at the project and change nothing. Heavy imports wait until they run."""

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.filesize import decimal

from pipelines.project.paths import COPIES, SCRATCH, STUDY_STEPS

WORKS = re.compile(r"-m (pipelines\.(?!cli\b)|prefect\.engine)|\b(gee|pipelines\.cli) (study|flow) run\b")
"""In the command line of a process that is at work in the project."""

RUNS = (
    *(f"{SCRATCH}/runs/{stage}-*" for stage in ("evolve", "train", "plain")),
    f"{STUDY_STEPS}-*",
    f"{COPIES}/tmp*",
    f"{COPIES}/standalone/tmp*",
)
"""Folders from which runs and studies resume, and DVC's copies of the project for experiments, which a kill leaves."""

SHOWN = 3
"""How many changes of a stage are named."""


def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show what is stale, what is running and what waits for MLflow.

    gee status
    gee status --json
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    from pipelines.orchestration.flow_lock import check_dvc_lock
    from pipelines.runtime.run_files import waiting_folders
    from pipelines.runtime.run_folder import runs_root

    check_dvc_lock()
    stale = None  # DVC holds its lock while it compares files itself
    with contextlib.suppress(LockError), Repo() as repo:
        stale = {name: _name_changes(entries) for name, entries in repo.status().items()}
    running = find_at_work(psutil.process_iter(), Path())
    n_waiting = sum(record.has_ended for record in waiting_folders(runs_root()).values())
    if as_json:
        print(json.dumps({"stale": stale, "running": running, "waiting_for_mlflow": n_waiting}))
        return
    if stale is None:
        print("stale    not known while DVC compares the files itself: ask again")
    for name, changes in (stale or {}).items():
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        print(f"stale    {name}: {', '.join(changes[:SHOWN])}{more}")
    print("\n".join(f"running  {line}" for line in running) or "running  nothing")
    waiting = f"{n_waiting} runs wait: `gee track replay` sends them, or says why not"
    print(f"MLflow   {waiting if n_waiting else 'has everything'}")
    if stale is not None:
        print("Next     `gee run` runs what is stale" if stale else "All stages are up to date")


def gc(
    days: Annotated[int, typer.Option(min=0, max=36500, help="Days since the last change in a folder.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list: folder, bytes, days.")] = False,
) -> None:
    """List folders that you can delete: states of runs and studies, and copies of the project that killed experiments left.

    An interrupted run resumes from its folder. A finished run or study does not need its folder.
    The command prints how to delete them, and how to clean DVC's cache and MLflow's database.

    gee gc --days 7
    """
    folders = find_unused(Path(), days)
    if as_json:
        print(json.dumps([{"folder": str(folder), "bytes": n_bytes, "days": age} for folder, n_bytes, age in folders]))
        return
    for folder, n_bytes, age in folders:
        print(f"{decimal(n_bytes):>8}  {age:>4} days  {folder}")
    print(f"{decimal(sum(n_bytes for _, n_bytes, _ in folders)):>8}  in all, of {len(folders)} folders\n")
    print("While nothing runs (`gee status`):")
    if folders:
        print(f"  rm -r {shlex.join(str(folder) for folder, *_ in folders)}")
    print("  dvc gc --workspace      # deletes results of other params, commits and experiments: push them first")
    print(f"  mlflow gc --backend-store-uri sqlite:///mlflow.db --tracking-uri sqlite:///mlflow.db --older-than {days}d")


def find_at_work(processes: Iterable[psutil.Process], project: Path) -> list[str]:
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


def find_unused(project: Path, days: int) -> list[tuple[Path, int, int]]:
    """The folders of RUNS in which nothing was changed for ``days`` days: each with its bytes, and the days since."""
    found = []
    for folder in sorted(path for pattern in RUNS for path in project.glob(pattern) if path.is_dir() and not path.is_symlink()):
        stats = [path.lstat() for path in [folder, *folder.rglob("*")]]
        age = int((time.time() - max(stat.st_mtime for stat in stats)) / 86400)
        if age >= days:
            found.append((folder.relative_to(project), sum(stat.st_size for stat in stats), age))
    return found


def _name_changes(entries: list[object]) -> list[str]:
    """The changes of a stage in two words each, such as `modified gee_core/model`."""
    groups = [group for entry in entries if isinstance(entry, dict) for group in entry.values() if isinstance(group, dict)]
    changes = [f"{how if isinstance(how, str) else 'changed'} {path}" for group in groups for path, how in group.items()]
    return changes or [str(entry) for entry in entries]
