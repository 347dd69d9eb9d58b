"""The results of a DVC experiment, which lie in git and DVC's cache, not in the project folder."""

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.storage.json_object import read_json_object
from pipelines.project.paths import PAGE, SCRATCH, SUMMARY

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

EXPERIMENTS = SCRATCH / "experiments"
"""Folder with the summary and the report of every experiment of a flow, in a folder by its name."""


def experiment_name(run: "FlowRun") -> str:
    """The name of the experiment of a flow run, another one each time that it is tried again.

    It is the run's own, which may be any text, without what DVC refuses: spaces, slashes and most punctuation.
    """
    attempt = f"-{run.run_count}" if run.run_count > 1 else ""
    return re.sub(r"[^\w-]+", "-", f"{run.name}-{str(run.id)[:4]}{attempt}").lstrip("-")


def read_results(project: Path, name: str) -> tuple[dict | None, Path | None]:
    """The summary and the path of the report of the experiment ``name``, copied to `EXPERIMENTS`; None for what it lacks."""
    from dvc.api import DVCFileSystem

    folder = project / EXPERIMENTS / name
    folder.mkdir(parents=True, exist_ok=True)
    files, found = DVCFileSystem(str(project), rev=name), {}
    for path in (SUMMARY, PAGE):
        with contextlib.suppress(FileNotFoundError):
            files.get_file(path.as_posix(), str(folder / path.name))
            found[path] = folder / path.name
    return read_json_object(found[SUMMARY]) if SUMMARY in found else None, found.get(PAGE)
