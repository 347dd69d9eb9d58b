"""Leftovers of DVC, MLflow and Prefect, which are deleted with their own commands."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from gee_core.errors import InputError
from pipelines.commands.gc.leftover import Leftover, below, newest_change, tree_size
from pipelines.tracking.mlflow_client import SQLITE, tracking_uri
from pipelines.tracking.moved_store import follow_own
from pipelines.tracking.redact import URI, bare


def dvc_leftovers(project: Path) -> list[Leftover]:
    """Files in DVC's cache that the workspace does not use: results of earlier params, other commits and experiments.

    Raises:
        InputError: DVC cannot read the project.
    """
    removing = "Removing "
    output = _run(project, "dvc", "gc", "--workspace", "--dry")
    paths = [Path(line.removeprefix(removing)) for line in output.splitlines() if line.startswith(removing)]
    if not paths:
        return []
    size = sum(tree_size(path) for path in paths if path.exists())

    def remove() -> None:
        _run(project, "dvc", "gc", "--workspace", "--force")

    return [Leftover("results that the workspace does not use", "DVC's cache", len(paths), size, remove)]


def mlflow_leftovers(project: Path, days: float, say: Callable[[str], None] = lambda text: None) -> list[Leftover]:
    """Runs in the project's own database that were deleted in MLflow more than ``days`` days ago, with their artifacts.

    ``say`` is told how many were deleted since.

    Raises:
        InputError: another store is configured, or the database cannot be read.
    """
    database = project / "mlflow.db"
    if os.environ.get(URI) and (uri := tracking_uri()) != f"{SQLITE}{database}":
        problem = f"--mlflow: {URI} = {bare(uri)} is another store"
        raise InputError(problem, "run `mlflow gc` there, or unset it for mlflow.db")
    if not database.is_file():
        return []
    follow_own()  # `mlflow gc` would delete the artifacts of the project that this one was copied from
    before = int((time.time() - days * 86400) * 1000)
    query = "select artifact_uri, coalesce(deleted_time, 0) < ? from runs where lifecycle_stage = 'deleted'"
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            deleted = connection.execute(query, (before,)).fetchall()
    except sqlite3.Error as error:
        remedy = "if it is damaged, move it away, and the next run makes a new one; or leave out --mlflow"
        raise InputError(f"{database}: cannot be read ({error})", remedy) from None
    places = [uri for uri, is_old in deleted if is_old]
    if kept := len(deleted) - len(places):
        say(f"Kept: {kept} deleted in MLflow within the last {days:g} days; `gee gc --mlflow --days 0` lists all of any age")
    if not places:
        return []
    size = sum(tree_size(path) for place in places if (path := Path(unquote(urlparse(place or "").path))).is_dir())

    def remove() -> None:
        store = f"{SQLITE}{database}"
        age = ["--older-than", f"{days:g}d"] if days else []
        _run(project, "mlflow", "gc", "--backend-store-uri", store, "--tracking-uri", store, *age)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("vacuum")

    what = f"runs deleted more than {days:g} days ago, with their artifacts"
    return [Leftover(what, "mlflow.db, mlartifacts", len(places), size, remove)]


def prefect_leftovers(project: Path, days: float) -> list[Leftover]:
    """Flow runs that ended more than ``days`` days ago, and equally old files in Prefect's storage."""
    if not os.environ.get("PREFECT_API_URL") and not (project / ".prefect/prefect.db").is_file():
        return []
    from pipelines.orchestration.server import delete_flow_runs, old_flow_runs

    found = []
    if ids := old_flow_runs(days):
        what = f"flow runs that ended more than {days:g} days ago"
        found.append(Leftover(what, "Prefect's database", len(ids), None, lambda: delete_flow_runs(ids)))
    before = time.time() - days * 86400
    storage = project / ".prefect/storage"
    files = [path for path in below(storage) if path.is_file() and newest_change(path) < before]
    if files:
        what = f"stored results, older than {days:g} days"
        found.append(Leftover(what, ".prefect/storage", len(files), sum(map(tree_size, files)), lambda: _unlink(files)))
    return found


def _unlink(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _run(project: Path, tool: str, *arguments: str) -> str:
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InputError(f"`{tool} {' '.join(arguments)}` failed: {' '.join(last)}")
    return done.stdout
