"""Saved states of long work, in files, in series of increasing numbers; each is verified before older ones are deleted.

The two newest are kept, so that the older one can be resumed from if a power loss or the disk damages the newer one.
"""

import logging
from pathlib import Path

from torch import Tensor

from gee_core.checkpoint import load_tensors, save_tensors, verify_tensors
from gee_core.errors import InputError
from gee_core.storage.atomic_files import remove_state

log = logging.getLogger(__name__)

KEPT = 2
"""Number of states of a series that are kept on disk."""


def keep_state(folder: Path, series: str, number: int, tensors: dict[str, Tensor], meta: dict) -> None:
    """Save ``tensors`` and ``meta`` as the newest state, verify the files, then delete older states."""
    path = folder / f"{series}-{number:08}.safetensors"
    save_tensors(path, tensors, meta)
    try:
        verify_tensors(path)
    except InputError as error:
        log.warning("%s; the states before it are kept", error)
        remove_state(path)
        return
    for old in _complete(folder, series)[:-KEPT]:
        if old != path:
            remove_state(old)


def newest_state(folder: Path, series: str, at_most: int | None = None) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and meta of the newest undamaged state of at most ``at_most``, or None; damaged states are deleted."""
    for path in reversed(_complete(folder, series)):
        if at_most is not None and state_number(path) > at_most:
            continue
        try:
            return load_tensors(path)
        except InputError as error:
            log.warning("%s; resuming from the state before it", error)
            remove_state(path)
    return None


def _complete(folder: Path, series: str) -> list[Path]:
    """The files of the series, oldest first, without those whose JSON is missing because writing was interrupted."""
    paths = folder.glob(f"{series}-[0-9]*.safetensors")
    return sorted((path for path in paths if path.with_suffix(".json").is_file()), key=state_number)


def state_number(path: Path) -> int:
    """The number of the state in ``path``."""
    return int(path.stem.rpartition("-")[2])
