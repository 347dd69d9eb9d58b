"""Repairs what DVC cannot read: it writes dvc.lock and its rwlock in place, so a kill or a full disk can cut them off."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from gee_core.storage.atomic_files import writing
from pipelines.project.paths import LOCK, SCRATCH

log = logging.getLogger(__name__)

RWLOCK = Path(".dvc/tmp/rwlock")
"""The files that running DVC processes read and write."""

WRITING = 1.0
"""Seconds after which another DVC process has finished writing the file."""


MARGIN = 10.0
"""Seconds by which the start of a process and the time of a file may be wrong against each other."""


def set_aside_damaged_dvc_files() -> None:
    """Move a dvc.lock that DVC cannot read to .scratch, and delete such an rwlock; the results are still in DVC's cache.

    Entries of an rwlock whose PID is that of another process by now go too: DVC would wait for that process.
    """
    aside = SCRATCH / f"{LOCK}.damaged"
    if _is_damaged(LOCK, _read_lock):
        with writing(aside):
            aside.parent.mkdir(parents=True, exist_ok=True)
            LOCK.replace(aside)
        log.warning("%s: damaged, moved to %s; `git checkout %s` restores the one of the last commit", LOCK, aside, LOCK)
    if _is_damaged(RWLOCK, _read_rwlock):
        RWLOCK.unlink(missing_ok=True)
        log.warning("%s: damaged, deleted; it is empty where no other `dvc` runs", RWLOCK)
    elif RWLOCK.is_file():
        with suppress(OSError, ValueError):  # another `dvc` may be writing it
            _remove_reused_pids(RWLOCK)


def holders(rwlock: dict) -> list[dict]:
    """The entries of an rwlock: the ``pid`` and ``cmd`` of each process that writes a file or reads it."""
    return [*rwlock.get("write", {}).values(), *(info for infos in rwlock.get("read", {}).values() for info in infos)]


def _remove_reused_pids(path: Path) -> None:
    written, found = path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8"))
    reused = {info["pid"] for info in holders(found) if _is_reused(info["pid"], written)}
    if not reused:
        return
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import _edit_rwlock

    with suppress(LockError), _edit_rwlock(str(path.parent), localfs, False) as lock:
        lock["write"] = {file: info for file, info in lock["write"].items() if info["pid"] not in reused}
        readers = {file: [info for info in infos if info["pid"] not in reused] for file, infos in lock["read"].items()}
        lock["read"] = {file: infos for file, infos in readers.items() if infos}
        log.warning("%s: entries of a `dvc` that was killed are removed; its PID is another process's now", RWLOCK)


def _is_reused(pid: int, written: float) -> bool:
    """Whether ``pid`` is that of a process that is no `dvc` and started after the rwlock was ``written``."""
    try:
        process = psutil.Process(pid)
        return process.create_time() > written + MARGIN and not any("dvc" in word for word in process.cmdline())
    except (psutil.Error, ValueError):
        return False


def _is_damaged(path: Path, read: Callable[[str], None]) -> bool:
    """Whether ``read`` refuses what ``path`` holds, also a moment later."""
    for pause in (0, WRITING):
        time.sleep(pause)
        if not path.is_file():
            return False
        try:
            read(path.read_text(encoding="utf-8"))
            return False
        except ValueError:  # text that is no UTF-8 raises one too
            pass
    return True


def _read_lock(text: str) -> None:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except (YAMLError, Invalid) as error:
        raise ValueError from error


def _read_rwlock(text: str) -> None:
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        SCHEMA(json.loads(text))
    except Invalid as error:
        raise ValueError from error
