"""What a candidate's short training run needs to know, and the file that it leaves. No torch here."""

from dataclasses import dataclass
from pathlib import Path

from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig
from gee_core.evolution.candidate import Candidate
from gee_core.settings import SAVE_SECONDS


@dataclass(frozen=True)
class ProxyTask:
    """What all candidates of an evolution have in common."""

    prepared: Path
    base: BaseConfig
    network: NetworkConfig
    evolve: EvolveConfig
    checkpoints: Path | None = None
    """Folder for every candidate's trained network and the states of its training run; None saves nothing."""
    save_seconds: float = SAVE_SECONDS
    """Least number of seconds between two states within an epoch."""


def checkpoint_name(candidate: Candidate) -> str:
    """File name of a candidate's trained network."""
    return f"gen{candidate.generation}-cand{candidate.index}.safetensors"
