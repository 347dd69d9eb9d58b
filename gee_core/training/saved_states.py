"""The states that something long leaves on its way, in files: each is verified before an older one goes.

A series of states has a name and a number that grows. The two newest are kept, so that where one is damaged later, by a
power loss or the disk, there is another to go on from.
"""

import logging
from pathlib import Path

from torch import Tensor

from gee_core.checkpoint import load_tensors, save_tensors, verify_tensors
from gee_core.errors import InputError
from gee_core.storage.checksummed_json import seal, unseal

log = logging.getLogger(__name__)

KEPT = 2
"""States of a series on disk."""


def keep_state(folder: Path, series: str, number: int, tensors: dict[str, Tensor], meta: dict) -> None:
    """Keep ``tensors`` and ``meta`` as the newest state; once they are read back as they were written, older ones go.

    Raises:
        InputError: the disk is full, or the folder may not be written to.
    """
    path = _path(folder, series, number)
    save_tensors(path, tensors, seal(meta))
    try:
        verify_tensors(path)
    except InputError as error:
        log.warning("%s; the states before it stay", _reason(error))
        _remove(path)
        return
    for old in _complete(folder, series)[:-KEPT]:
        if old != path:
            _remove(old)


def newest_state(folder: Path, series: str, at_most: int | None = None) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and meta of the newest state that is whole; None where there is none.

    Damaged ones are named in a warning and removed. ``at_most`` leaves those with a greater number aside.
    """
    for path in reversed(_complete(folder, series)):
        if at_most is not None and _number(path) > at_most:
            continue
        try:
            tensors, meta = load_tensors(path)
            return tensors, unseal(meta)
        except ValueError as error:  # an InputError is one, too
            named = "" if isinstance(error, InputError) else f"{path.with_suffix('.json')}: damaged, "
            log.warning("%s%s; going on from the state before it", named, _reason(error))
            _remove(path)
    return None


def forget_states(folder: Path, pattern: str) -> None:
    """Remove the states of every series whose name matches ``pattern``."""
    for path in folder.glob(f"{pattern}-[0-9]*.safetensors"):
        _remove(path)


def _path(folder: Path, series: str, number: int) -> Path:
    return folder / f"{series}-{number:08}.safetensors"


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _complete(folder: Path, series: str) -> list[Path]:
    """Files of the series, oldest first; one without its JSON was cut off while it was written, and is none."""
    paths = folder.glob(f"{series}-[0-9]*.safetensors")
    return sorted((path for path in paths if path.with_suffix(".json").is_file()), key=_number)


def _reason(error: ValueError) -> str:
    return str(error).partition("; delete")[0]  # the remedy is for other files: here there is nothing to do


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
