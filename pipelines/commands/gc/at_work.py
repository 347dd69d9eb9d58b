"""Finds the processes that are working in a project, so that their files are not deleted."""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from pipelines.runtime.process_tree import is_dvc_run


def at_work(processes: Iterable[psutil.Process], project: Path) -> list[str]:
    """Those of ``processes`` that run a stage, a study, a flow or `dvc` in ``project``, as ``PID command line``.

    Servers and a waiting schedule do not count.
    """
    found = []
    for process in processes:
        try:
            folder = Path(process.cwd()).resolve()  # DVC's temporary copies lie below .dvc/tmp/exps
            if process.pid != os.getpid() and folder.is_relative_to(project.resolve()) and _works(process):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
        except psutil.Error:
            continue
    return found


def _works(process: psutil.Process) -> bool:
    words = process.cmdline()
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    stage = module.startswith("pipelines.") and module != "pipelines.cli"
    names = [Path(word).name for word in words[:3]]  # gee …, python gee …, python -m pipelines.cli …
    start = next((i for i, name in enumerate(names) if name in ("gee", "pipelines.cli")), len(words))
    command = words[start + 1 : start + 3]
    return stage or module == "prefect.engine" or is_dvc_run(process) or command in (["study", "run"], ["flow", "run"])
