"""Queues a preset as a DVC experiment."""

import subprocess
import sys
from pathlib import Path

from gee_core.errors import InputError
from pipelines.orchestration.request import experiment_changes
from pipelines.project.params import check_params, load_params
from pipelines.project.presets import Preset
from pipelines.project.watched_files import check_raw_folder


def queue_preset(name: str, preset: Preset) -> list[str]:
    """Queue ``preset`` as the DVC experiment ``name``; returns its changes to params.yaml as ``key=value``, with which DVC
    changes a copy: the file itself stays as it is.

    Raises:
        InputError: params.yaml is not valid, the folder of the images is missing, or DVC cannot queue it.
    """
    load_params()
    values, changes = experiment_changes(preset.values, preset.params, Path())
    check_raw_folder(check_params(values, f"presets/{name}.yaml").prepare)
    command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name]
    done = subprocess.run([*command, *(f"--set-param={change}" for change in changes)], capture_output=True, text=True)
    if done.returncode != 0:
        problem = " ".join(line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: "))
        remedy = "it takes a git commit, and no other experiment of this name (`dvc exp remove`, `dvc queue remove`)"
        raise InputError(f"DVC cannot queue the experiment {name!r} ({problem or done.stderr.strip()})", remedy)
    return changes
