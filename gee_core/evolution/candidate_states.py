"""The saved states of a candidate's training run: between two rungs of successive halving, and within a long epoch."""

from pathlib import Path

import torch
from torch import nn

from gee_core.evolution.candidate import Candidate
from gee_core.training.resume import Resumable
from gee_core.training.saved_states import forget_states


def resumable(
    folder: Path | None,
    candidate: Candidate,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    n_steps: int,
    save_seconds: float,
) -> Resumable:
    """Saves and restores the candidate's training run in ``folder``; ``folder=None`` saves nothing."""
    identity = {"seed": candidate.seed, "sigmas": candidate.genotype.as_dict()}
    return Resumable(folder, _series(candidate.generation, candidate.index), net, optimizer, n_steps, identity, save_seconds)


def forget_rungs(folder: Path, generation: int) -> None:
    """Delete the states of a finished generation."""
    forget_states(folder, _series(generation, "*"))


def _series(generation: int, index: int | str) -> str:
    return f"gen{generation}-cand{index}-step"
