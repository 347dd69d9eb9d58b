"""Loads data/prepared for the stages after prepare."""

from pathlib import Path

import torch

from gee_core.data.prepared import Prepared, load_prepared
from gee_core.training.loop import Images
from pipelines.inputs.remedies import PREPARE, remedy
from pipelines.project.paths import PREPARED


def prepared_images(folder: Path = PREPARED) -> Prepared:
    """The prepared images."""
    with remedy(PREPARE):
        return load_prepared(folder)


def spaced(images: Images, n: int) -> Images:
    """``n`` of ``images`` (all if there are fewer), evenly spaced, since they may be sorted by class."""
    return images.subset(torch.linspace(0, len(images) - 1, min(n, len(images))).long())
