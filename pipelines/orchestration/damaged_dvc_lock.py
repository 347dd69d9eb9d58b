"""dvc.lock after a kill: DVC writes it in place, so that one that ends in that moment leaves half of it."""

import logging
import time
from pathlib import Path

from gee_core.storage.atomic_files import writing
from pipelines.project.paths import LOCK, SCRATCH

log = logging.getLogger(__name__)

WRITING = 1.0
"""Seconds after which another DVC that is writing the file is done."""


def set_aside_damaged_lock(project: Path = Path()) -> None:
    """Move a dvc.lock that DVC would refuse out of its way; results that it knew are found in DVC's cache all the same."""
    path, aside = project / LOCK, project / SCRATCH / f"{LOCK}.damaged"
    if _is_whole(path):
        return
    time.sleep(WRITING)
    if _is_whole(path):
        return
    with writing(aside):
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.replace(aside)
    log.warning("%s: damaged, moved to %s; `git checkout %s` brings back the one of the last commit", LOCK, aside, LOCK)


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return True
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
        return True
    except (YAMLError, Invalid, ValueError):  # ValueError: no UTF-8
        return False
