"""Paths of the files that stages exchange, relative to the project folder; docs/FILES.md describes their contents.

And checks of where the files lie that params.yaml names: DVC has to watch them, so that a change makes stages run again.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.errors import InputError
from gee_core.storage.atomic_files import writing

if TYPE_CHECKING:
    from gee_core.config import PrepareConfig

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
CONTROLS = MODELS / "evolve/controls.json"
CHECKPOINT = MODELS / "train/network.safetensors"
ONNX = MODELS / "export/network.onnx"
NIR = MODELS / "export/network.nir"
GENES = MODELS / "export/genes.safetensors"
UPDATE = MODELS / "export/network.update"
IN_USE = INPUTS / UPDATE.name
"""The update that a new one has to be better than."""
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


def check_raw_folder(cfg: "PrepareConfig") -> None:
    """Check that `prepare.path` exists, since DVC watches it; the folder is made where torchvision can download into it."""
    path = Path(cfg.path)
    if cfg.is_downloadable and path.parts[:1] != ("~",):  # which torchvision expands, and nothing else does
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        from gee_core.data.folders import no_folder  # loads Pillow

        raise no_folder(path, f"prepare.path = {cfg.path}", "put the images there, or set it to where they are")


def check_links(cfg: "PrepareConfig") -> None:
    """Check that the folders of splits and classes are no links: DVC looks through `prepare.path` and the files alone."""
    from gee_core.data.folders import is_in_files, linked_folders  # loads Pillow

    path = Path(cfg.path)
    if found := linked_folders(path) if is_in_files(cfg) else []:
        names = f"{shlex.quote(os.path.abspath(path))} {shlex.quote(f'{path}-linked')}"
        more = f" (as are {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(
            f"{found[0]}: is a link to a folder{more}, and DVC would notice no change of the images behind it",
            f"set prepare.path to a folder of links to the files: `cp -rsL {names}`",
        )


def check_in_inputs(key: str, path: Path) -> None:
    """Check that the file ``path``, which ``key`` names, lies in the folder whose contents DVC watches."""
    if not Path(os.path.abspath(path)).is_relative_to(INPUTS.absolute()):
        problem = f"{key} = {path}: not in the folder {INPUTS}/, the only one in which DVC watches files for {key}"
        raise InputError(problem, f"copy the file there and set {key} to {INPUTS / path.name}")
