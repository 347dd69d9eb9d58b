"""Waits for a `dvc repro` that somebody else started: for the files of its stages, `--wait-for-lock` does not wait."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipelines.orchestration.damaged_dvc_files import RWLOCK, holders
from pipelines.orchestration.flow_lock import WAITS, at_work
from pipelines.runtime.process_tree import is_gone, process_key

DVC_ERROR = 255
"""The code with which `dvc` exits, whatever went wrong."""

INTERVAL = 0.5
"""Seconds between two looks."""


def wait_for_other_dvc(project: Path, say: Callable[[str], object]) -> bool:
    """Wait for the end of a `dvc` that has locked files of the project; whether there was one. ``say`` is told which."""
    found = _holder(project)
    if found is None:
        return False
    key, name = found
    say(f"{at_work(project, name)}; {WAITS}")
    while not is_gone(key):
        time.sleep(INTERVAL)
    return True


def _holder(project: Path) -> tuple[str, str] | None:
    """The `process_key` and the name of a living process in DVC's rwlock."""
    try:
        found = json.loads((project / RWLOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or a `dvc` is writing it
        return None
    for info in holders(found):
        try:
            key = process_key(psutil.Process(info["pid"]))
        except (psutil.NoSuchProcess, OSError):
            continue
        if not is_gone(key):
            command = re.sub(r"^\S*/dvc(/__main__\.py)?\b", "dvc", info["cmd"])
            return key, f"process {info['pid']}, `{command}`"
    return None
