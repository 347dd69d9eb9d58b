"""Loads data/prepared for the stages after prepare."""

from pathlib import Path

from gee_core.data.prepared import Prepared, load_prepared
from pipelines.inputs.remedies import remedy
from pipelines.project.paths import PREPARED

REMEDY = "`dvc repro prepare` makes it, `dvc pull` fetches it"


def prepared_images(folder: Path = PREPARED) -> Prepared:
    """The prepared images."""
    with remedy(REMEDY):
        return load_prepared(folder)
