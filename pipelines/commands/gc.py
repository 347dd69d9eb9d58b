"""The command `gee gc`: lists files that are no longer needed, and deletes them. Heavy imports wait until it runs."""

import contextlib
import math
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlparse

import psutil
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table

from gee_core.errors import InputError
from pipelines.project.paths import COPIES, LOCK, SCRATCH, STUDY_STEPS, find_project

console = Console(highlight=False, markup=False)

MOST_DAYS = 100 * 365
"""A date before the year 1 cannot be represented; a hundred years are enough."""

MIN_AGE = 3600
"""Seconds. Files written more recently may be in use, whatever number of days was asked for."""

WORKS = re.compile(r"-m (pipelines\.(?!cli\b)|prefect\.engine)|\b(gee|pipelines\.cli) (study|flow) run\b")
"""In the command line of a process that is at work in the project."""

REMOVING = SCRATCH / "removing"
"""Folders are moved here before they are deleted, so that no process finds half of one."""


@dataclass(frozen=True)
class Leftover:
    """Files or records of one kind that are deleted together: ``what`` and ``place`` for users, ``size`` in bytes if known."""

    what: str
    place: Path | str
    count: int
    size: int | None
    remove: Callable[[], object]


def gc(
    days: Annotated[float, typer.Option(help="Keep what was used within this time.")] = 30,
    dvc: Annotated[
        bool, typer.Option("--dvc", help="Also results in DVC's cache that the workspace does not use, experiments included.")
    ] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Also runs deleted in MLflow; they cannot be restored.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without this option they are only listed.")] = False,
) -> None:
    """List files that are no longer needed; with --yes, delete them.

    These are finished and abandoned runs of stages, and shared results of studies.
    While a stage, a study or a flow is running, nothing in .scratch and in DVC's cache is deleted.
    Before --dvc, `dvc push --all-branches --all-tags` keeps the results of branches and tags in a remote, `dvc push` after each
    commit those of every commit, `dvc exp push` those of experiments.
    """
    from pipelines.orchestration.flow_lock import flow_lock

    if not 0 <= days <= MOST_DAYS:  # nor is nan
        raise InputError(f"--days {days:g}: out of range", f"choose 0 to {MOST_DAYS}")
    project = find_project()
    with flow_lock(project, None) if yes else contextlib.nullcontext():
        found = mlflow_leftovers(project, days) if mlflow else []
        if working := at_work(psutil.process_iter(), project):
            console.print(f".scratch and DVC's cache are kept, because these are running: {'; '.join(working)}")
        else:
            found += scratch_leftovers(project, days)
            found += dvc_leftovers(project) if dvc else []
        _print(found)
        for leftover in found if yes else []:
            leftover.remove()
    if found:
        listed = "Nothing was deleted; `gee gc --yes` with the same options deletes it"
        console.print(f"Deleted in {project}" if yes else listed, soft_wrap=True)


def _print(found: list[Leftover]) -> None:
    if not found:
        console.print("Nothing to delete")
        return
    table = Table("what", "where", *(Column(name, justify="right") for name in ("how many", "size")))
    for leftover in found:
        size = "?" if leftover.size is None else decimal(leftover.size)
        table.add_row(leftover.what, str(leftover.place), f"{leftover.count:,}", size)
    table.add_section()
    table.add_row("total", "", "", decimal(sum(leftover.size or 0 for leftover in found)))
    console.print(table)


def at_work(processes: Iterable[psutil.Process], project: Path) -> list[str]:
    """The ``processes`` that run a stage, a study, a flow or `dvc` in ``project``, as ``PID command line``.

    Servers and a waiting schedule do not count.
    """
    from pipelines.runtime.process_tree import is_dvc_run

    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            folder, line = Path(process.cwd()).resolve(), " ".join(process.cmdline())
            inside = folder.is_relative_to(project.resolve())  # DVC's temporary copies lie below .dvc/tmp/exps
            if process.pid != os.getpid() and inside and (WORKS.search(line) or is_dvc_run(process)):
                found.append(f"{process.pid} {line[:100]}")
    return found


def scratch_leftovers(project: Path, days: float) -> list[Leftover]:
    """Folders of stages whose results DVC has, and all folders that were not written to for ``days`` days.

    A folder that a process holds, or that was written to within MIN_AGE, stays.
    """
    from pipelines.runtime.resume_folder import is_recorded

    recent = time.time() - MIN_AGE
    before = min(time.time() - days * 86400, recent)

    def folders(*parents: Path, name: str = "*", before: float = before) -> list[Path]:
        found = (path for parent in parents for path in sorted((project / parent).glob(name)))
        return [path for path in found if path.is_dir() and not path.is_symlink() and _is_free(path, before)]

    stages = [SCRATCH / "evolve", SCRATCH / "train"]
    finished = [folder for folder in folders(*stages, before=recent) if is_recorded(folder, project / LOCK)]
    interrupted = [folder for folder in folders(*stages) if folder not in finished]
    steps = folders(*(STUDY_STEPS / step for step in ("prepare", "evolve", "train")))
    copies = folders(COPIES, COPIES / "standalone", name="tmp*")
    kinds = [
        ("runs of stages, finished", SCRATCH, finished),
        (f"runs of stages, interrupted, older than {days:g} days", SCRATCH, interrupted),
        (f"steps of studies, older than {days:g} days", STUDY_STEPS, steps),
        (f"copies of the project of killed experiments, older than {days:g} days", COPIES, copies),
        ("left behind by an interrupted `gee gc`", REMOVING, folders(REMOVING, before=math.inf)),
    ]
    return [
        Leftover(what, place, len(found), sum(map(tree_size, found)), partial(_remove, project, found, time.time()))
        for what, place, found in kinds
        if found
    ]


def _remove(project: Path, folders: list[Path], found_at: float) -> None:
    for folder in folders:
        if _is_free(folder, found_at):
            aside = project / REMOVING / uuid.uuid4().hex
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(aside)
            shutil.rmtree(aside)
    with contextlib.suppress(OSError):
        (project / REMOVING).rmdir()


def _is_free(folder: Path, before: float) -> bool:
    """Whether nothing at and below ``folder`` was written since ``before``, and no process holds it."""
    from pipelines.runtime.file_lock import file_lock
    from pipelines.runtime.resume_folder import HELD

    if max((found.st_mtime for found in _stats(folder)), default=math.inf) >= before:
        return False
    if not (folder / HELD).is_file():
        return True
    with file_lock(folder / HELD, wait=False) as held:
        return held


def tree_size(path: Path) -> int:
    """Bytes of all files at and below ``path``; links are not followed."""
    return sum(found.st_size for found in _stats(path) if not stat.S_ISDIR(found.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of everything at and below ``path``. Files may disappear meanwhile."""
    for file in [path, *(Path(folder, name) for folder, folders, files in os.walk(path) for name in [*folders, *files])]:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def dvc_leftovers(project: Path) -> list[Leftover]:
    """Files in DVC's cache that the workspace does not use: results of earlier params, other commits and experiments.

    Raises:
        InputError: DVC cannot read the project.
    """
    lines = _run(project, "dvc", "gc", "--workspace", "--dry").splitlines()
    paths = [Path(line.removeprefix("Removing ")) for line in lines if line.startswith("Removing ")]
    if not paths:
        return []
    remove = partial(_run, project, "dvc", "gc", "--workspace", "--force")
    what = "results that the workspace does not use"
    return [Leftover(what, "DVC's cache", len(paths), sum(map(tree_size, paths)), remove)]


def mlflow_leftovers(project: Path, days: float) -> list[Leftover]:
    """Runs in the project's own database that were deleted in MLflow more than ``days`` days ago, with their artifacts.

    Raises:
        InputError: another store is configured, or the database cannot be read.
    """
    from pipelines.tracking.mlflow_client import SQLITE, check_place, tracking_uri
    from pipelines.tracking.redact import URI, bare

    database = project / "mlflow.db"
    if os.environ.get(URI) and (uri := tracking_uri()) != f"{SQLITE}{database}":
        problem = f"--mlflow: {URI} = {bare(uri)} is another store"
        raise InputError(problem, "run `mlflow gc` there, or unset it for mlflow.db")
    if not database.is_file():
        return []
    check_place()  # `mlflow gc` would delete the artifacts of the project that this one was copied from
    query = "select artifact_uri from runs where lifecycle_stage = 'deleted' and coalesce(deleted_time, 0) < ?"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(query, (int((time.time() - days * 86400) * 1000),)).fetchall()
    except sqlite3.Error as error:
        remedy = "if it is damaged, move it away, and the next run makes a new one; or leave out --mlflow"
        raise InputError(f"{database}: cannot be read ({error})", remedy) from None
    if not rows:
        return []
    age = ["--older-than", f"{days:g}d"] if days else []
    store = f"{SQLITE}{database}"
    remove = partial(_run, project, "mlflow", "gc", "--backend-store-uri", store, "--tracking-uri", store, *age)
    size = sum(tree_size(Path(unquote(urlparse(uri).path))) for (uri,) in rows)
    what = f"runs deleted more than {days:g} days ago, with their artifacts"
    return [Leftover(what, "mlflow.db, mlartifacts", len(rows), size, remove)]


def _run(project: Path, tool: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", tool, *arguments], cwd=project, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InputError(f"`{tool} {' '.join(arguments)}` failed: {' '.join(last)}")
    return done.stdout
