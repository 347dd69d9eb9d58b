"""A candidate's training in files: between two rungs of successive halving, and in the middle of a long one."""

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
    """The states of the candidate's training in ``folder``; none are kept where that is None."""
    identity = {"seed": candidate.seed, "sigmas": candidate.genotype.as_dict()}
    return Resumable(folder, _series(candidate.generation, candidate.index), net, optimizer, n_steps, identity, save_seconds)


def forget_rungs(folder: Path, generation: int) -> None:
    """Remove the states of a generation that is complete."""
    forget_states(folder, _series(generation, "*"))


def _series(generation: int, index: int | str) -> str:
    return f"gen{generation}-cand{index}-step"
