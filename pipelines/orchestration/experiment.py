"""The results of a DVC experiment, which lie in git and DVC's cache, not in the project folder."""

import contextlib
from pathlib import Path

from gee_core.storage.json_object import read_json_object
from pipelines.project.paths import PAGE, SCRATCH, SUMMARY

EXPERIMENTS = SCRATCH / "experiments"
"""Folder with the summary and the report of every experiment of a flow, in a folder by its name."""


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
