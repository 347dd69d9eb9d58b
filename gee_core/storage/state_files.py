"""The files of saved states, by their names: ``series-number.safetensors`` and a JSON file beside it. No torch here."""

from pathlib import Path


def forget_states(folder: Path, pattern: str) -> None:
    """Delete the states of every series whose name matches ``pattern``."""
    for path in folder.glob(f"{pattern}-[0-9]*.safetensors"):
        remove_state(path)


def state_number(path: Path) -> int:
    """The number of the state in ``path``."""
    return int(path.stem.rpartition("-")[2])


def remove_state(path: Path) -> None:
    """Delete the state in ``path``, its tensors and its JSON."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
