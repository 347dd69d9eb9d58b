"""Loads data/prepared for the stages after prepare."""

from pathlib import Path

from gee_core.data.prepared import Prepared, load_prepared
from pipelines.inputs.remedies import PREPARE, remedy
from pipelines.project.paths import PREPARED


def prepared_images(folder: Path = PREPARED) -> Prepared:
    """The prepared images."""
    with remedy(PREPARE):
        return load_prepared(folder)
