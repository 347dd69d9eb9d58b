"""Repairs a project whose dvc.lock is damaged: DVC writes the file in place, so a kill can cut it off."""

import logging
import time
from pathlib import Path

from gee_core.storage.atomic_files import writing
from pipelines.project.paths import LOCK, SCRATCH

log = logging.getLogger(__name__)

WRITING = 1.0
"""Seconds after which another DVC process has finished writing the file."""


def set_aside_damaged_lock(project: Path = Path()) -> None:
    """Move a dvc.lock that DVC cannot read to .scratch; DVC still finds the results in its cache."""
    path, aside = project / LOCK, project / SCRATCH / f"{LOCK}.damaged"
    for pause in (0, WRITING):
        time.sleep(pause)
        if _is_whole(path):
            return
    with writing(aside):
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.replace(aside)
    log.warning("%s: damaged, moved to %s; `git checkout %s` restores the one of the last commit", LOCK, aside, LOCK)


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
