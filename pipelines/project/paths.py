"""Paths of the files that stages exchange, relative to the project folder; docs/FILES.md describes their contents."""

import os
import sys
from pathlib import Path

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
LOCK = Path("dvc.lock")
INPUTS = Path("inputs")
NETWORKS = Path("networks")
PREPARED = Path("data/prepared")
MODELS = Path("models")
REPORTS = Path("reports")
SCRATCH = Path(".scratch")
STUDY_STEPS = SCRATCH / "runs/step"
"""The folders with what cells of studies have in common begin so."""
COPIES = Path(".dvc/tmp/exps")
"""Where DVC copies the project for an experiment; it deletes the copy when the experiment ends, but not when it is killed."""

CHECKED = REPORTS / "checked"
CHECKED_START = REPORTS / "checked_start"
CHECKED_INIT_FROM = REPORTS / "checked_init_from"
GENOTYPE = MODELS / "evolve/genotype.json"
FRONT = MODELS / "evolve/front.json"
CHECKPOINT = MODELS / "train/network.safetensors"
ONNX = MODELS / "export/network.onnx"
NIR = MODELS / "export/network.nir"
GENES = MODELS / "export/genes.safetensors"
SUMMARY = REPORTS / "summary.json"
PAGE = REPORTS / "index.html"


def find_project(start: Path | None = None) -> Path:
    """The project folder: the nearest one at or above ``start`` (default: the current one) that is one; else this clone.

    It has a dvc.yaml, and a params.yaml or the presets that one is made from.
    """
    start = (start or Path.cwd()).resolve()
    for folder in [start, *start.parents]:
        if (folder / "dvc.yaml").is_file() and ((folder / PARAMS).is_file() or (folder / PRESETS).is_dir()):
            return folder
    return Path(__file__).resolve().parents[2]


def python_first() -> str:
    """A PATH on which this Python comes first, since dvc.yaml calls `python`."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def in_project(path: str | None, here: Path | None) -> str | None:
    """``path``, which a command given in the folder ``here`` means, as seen from the project folder, the current one.

    It stays as it is if it is absolute, or one of the two is not given.
    """
    return path if path is None or here is None or Path(path).is_absolute() else os.path.relpath(here / path)


def original_project(folder: Path) -> Path:
    """The project that ``folder`` is or, if it is a copy that `dvc exp run --temp` or DVC's queue works in, was copied from."""
    for parent in folder.parents:
        if parent.parts[-len(COPIES.parts) :] == COPIES.parts:
            return parent.parents[len(COPIES.parts) - 1]
    return folder
