"""The saved states of a candidate's training run: between two rungs of successive halving, and within a long epoch."""

from pathlib import Path

from gee_core.storage.state_files import forget_states


def series(generation: int, index: int | str, wiring: str) -> str:
    """The name of a candidate's states; no other wiring has it."""
    return f"gen{generation}-cand{index}-{wiring}-step"


def forget_rungs(folder: Path, generation: int) -> None:
    """Delete the states of a finished generation."""
    forget_states(folder, series(generation, "*", "*"))
