"""The task of a candidate's short training run, and the files that it leaves. No torch here."""

from dataclasses import dataclass
from pathlib import Path

from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig
from gee_core.evolution.candidate import Candidate
from gee_core.settings import SAVE_SECONDS
from gee_core.storage.atomic_files import forget_states


@dataclass(frozen=True)
class ProxyTask:
    """The part that all candidates of an evolution have in common."""

    prepared: Path
    base: BaseConfig
    network: NetworkConfig
    evolve: EvolveConfig
    checkpoints: Path | None = None
    """Folder for every candidate's trained network and the states of its training run. With None nothing is saved."""
    save_seconds: float = SAVE_SECONDS
    """Least number of seconds between two states within an epoch."""
    pj: tuple[float, float] = (4.6, 0.9)
    """E_MAC and E_AC of `evaluate`, in pJ."""


def checkpoint_name(candidate: Candidate) -> str:
    """File name of a candidate's trained network."""
    return f"gen{candidate.generation}-cand{candidate.index}.safetensors"


def series(generation: int, index: int | str, wiring: str) -> str:
    """The name of a candidate's states within a long training. No other wiring has it."""
    return f"gen{generation}-cand{index}-{wiring}-step"


def forget_generation(folder: Path, generation: int) -> None:
    """Delete the states of a finished generation."""
    forget_states(folder, series(generation, "*", "*"))
